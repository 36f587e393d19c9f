#!/bin/sh
# gpuwarden, in the Python of its own package. -I: nothing of the caller's environment, folder or home is imported.
if [ -z "${SSL_CERT_FILE-}" ] && [ ! -e /usr/lib/ssl/certs ] && [ -z "${SSL_CERT_DIR-}" ]; then
    # Where this host keeps the certificates of authorities: Debian's is built in.
    for bundle in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem; do
        if [ -r "$bundle" ]; then
            export SSL_CERT_FILE="$bundle"
            break
        fi
    done
fi
exec /usr/lib/@PACKAGE@/python/bin/python3.13 -I -m gpuwarden "$@"
