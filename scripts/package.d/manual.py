"""usage: manual.py TREE PACKAGE VERSION: manual pages and shell completion, from the verbs and settings themselves."""

import gzip
import os
import sys
import typing
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
from click.shell_completion import get_completion_class
from pydantic import BaseModel

from gpuwarden.cli import main as cli
from gpuwarden.commands.config import as_toml
from gpuwarden.config import Config
from gpuwarden.config_aggregator import AggregatorConfig
from gpuwarden.config_files import Loaded

EPOCH = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
EXITS = "0 well, 1 a problem was found, 2 wrong usage, 3 the agent cannot be reached."


def quoted(text: str) -> str:
    """Text as troff takes it: nothing in it is a request or an escape."""
    lines = text.replace("\\", "\\e").replace("-", "\\-").splitlines()
    return "\n".join("\\&" + line if line[:1] in (".", "'") else line for line in lines)


def page(name: str, section: int, version: str, short: str, body: str) -> str:
    """A whole page."""
    date = datetime.fromtimestamp(EPOCH, UTC).strftime("%Y-%m-%d")
    head = f'.TH "{name.upper()}" {section} {date} "gpuwarden {version}"\n.SH NAME\n{quoted(name)} \\- {quoted(short)}\n'
    return head + body


def verbs(command: click.Command, path: str) -> Iterator[tuple[str, click.Command, click.Context]]:
    """This verb and those below it, in the order of --help."""
    context = click.Context(command, info_name=path)
    yield path, command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                yield from verbs(below, f"{path} {name}")


def options(command: click.Command, context: click.Context) -> str:
    """Its options with what each does."""
    told = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            told.append(f".TP\n\\fB{quoted(record[0])}\\fR\n{quoted(record[1]) or 'See above.'}\n")
    return "".join(told)


def told(path: str, command: click.Command, context: click.Context) -> str:
    """One verb: how it is called, what it does, its options."""
    usage = " ".join(command.collect_usage_pieces(context))
    text = "\n.PP\n".join(
        quoted(" ".join(part.split())) for part in (command.help or "").split("\n\n")
    )
    return f".SS {quoted(path)} {quoted(usage)}\n{text}\n{options(command, context)}"


def overview(version: str) -> str:
    """gpuwarden(8): every verb."""
    every = list(verbs(cli, "gpuwarden"))
    body = ".SH SYNOPSIS\n.B gpuwarden\nVERB [OPTIONS] [ARGUMENTS]\n.SH DESCRIPTION\n"
    body += quoted(cli.help or "") + "\n.SH VERBS\n" + "".join(told(*each) for each in every[1:])
    body += f".SH EXIT STATUS\n{quoted(EXITS)}\n.SH FILES\n"
    for path, what in (
        ("/etc/gpuwarden/agent.toml", "the agent: agent.toml(5)"),
        ("/etc/gpuwarden/aggregator.toml", "the aggregator: aggregator.toml(5)"),
        ("/var/lib/gpuwarden", "the agent's journal and state"),
    ):
        body += f".TP\n.I {quoted(path)}\n{quoted(what)}\n"
    body += ".SH SEE ALSO\n.BR gpuwarden\\-agent (8),\n.BR gpuwarden\\-aggregator (8),\n.BR agent.toml (5),\n.BR aggregator.toml (5)\n"
    return page("gpuwarden", 8, version, "keeps a shared GPU host safe", body)


def daemon(verb: str, version: str, short: str, rest: str) -> str:
    """The page of one daemon."""
    body = ""
    for path, command, context in verbs(cli, "gpuwarden"):
        if path.split()[1:2] == [verb]:
            body += told(path, command, context)
    body = f".SH SYNOPSIS\n.B gpuwarden {verb}\n[OPTIONS]\n.SH DESCRIPTION\n{quoted(rest)}\n.SH USAGE\n{body}"
    body += f".SH SEE ALSO\n.BR gpuwarden (8),\n.BR {'agent' if verb == 'agent' else 'aggregator'}.toml (5)\n"
    return page(f"gpuwarden-{verb}", 8, version, short, body)


def every(model: type[BaseModel], path: str) -> Iterator[tuple[str, str]]:
    """(table.name, default) of every setting, also of those that are not set by default."""
    for name, field in model.model_fields.items():
        own = f"{path}{field.alias or name}"
        below = {each for each in parts_of(field.annotation) if issubclass(each, BaseModel)}
        for each in sorted(below, key=lambda one: one.__name__):
            yield from every(each, f"{own}.")
        if not below:
            default = field.get_default(call_default_factory=True)
            is_unset = field.is_required() or default is None
            yield own, "unset" if is_unset else f"default {default!r}"


def parts_of(annotation: object) -> Iterator[type]:
    """The classes that a type is made of."""
    if isinstance(annotation, type) and not typing.get_args(annotation):
        yield annotation
    for each in typing.get_args(annotation):
        yield from parts_of(each)


def settings(
    name: str, version: str, dropins: str, model: Config | AggregatorConfig, example: str
) -> str:
    """NAME(5): the shipped example, which explains, and every setting with its default."""
    lines = as_toml(Loaded(config=model, files=(), origins={}), has_origin=False)
    known = "".join(f".TP\n.B {quoted(n)}\n{quoted(v)}\n" for n, v in every(type(model), ""))
    plain = [line if isinstance(line, str) else str(line) for line in lines]
    body = (
        f".SH DESCRIPTION\n{quoted(f'TOML. Drop-ins: /etc/gpuwarden/{dropins}/*.toml, in lexical order; later wins, tables merge, lists replace.')}\n"
        f"{quoted('Each mistake is listed with its place by gpuwarden check-config.')}\n"
        f".SH EXAMPLE\n.nf\n{quoted(example)}\n.fi\n.SH DEFAULTS\n.nf\n{quoted(chr(10).join(plain))}\n.fi\n"
        f".SH SETTINGS\n{known}.SH SEE ALSO\n.BR gpuwarden (8)\n"
    )
    return page(name, 5, version, f"settings of the gpuwarden {name.removesuffix('.toml')}", body)


def put(path: Path, text: str, *, packed: bool = True) -> None:
    """A file, packed as manual pages are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode("utf-8")
    path.write_bytes(gzip.compress(data, 9, mtime=0) if packed else data)
    path.chmod(0o644)


def main() -> None:
    tree, package, version = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    own, man = tree / "usr/lib" / package, tree / "usr/share/man"
    put(own / "man/gpuwarden.8.gz", overview(version))
    for shell in ("bash", "zsh", "fish"):
        kind = get_completion_class(shell)
        assert kind is not None
        text = kind(cli, {}, "gpuwarden", "_GPUWARDEN_COMPLETE").source()
        put(own / f"completion/gpuwarden.{shell}", text, packed=False)
    if package == "gpuwarden":
        example = (tree / "etc/gpuwarden/agent.toml").read_text(encoding="utf-8")
        rest = "The daemon of one host. systemctl reload gpuwarden-agent reads the configuration again; a bad one changes nothing."
        put(
            man / "man8/gpuwarden-agent.8.gz",
            daemon("agent", version, "the daemon of a GPU host", rest),
        )
        put(
            man / "man5/agent.toml.5.gz",
            settings("agent.toml", version, "conf.d", Config(), example),
        )
    else:
        example = (tree / "etc/gpuwarden/aggregator.toml").read_text(encoding="utf-8")
        rest = (
            "The daemon of a fleet: it takes what nodes tell, and gives leave for harm. systemctl reload"
            " gpuwarden-aggregator reads the configuration again; a bad one changes nothing."
        )
        put(
            man / "man8/gpuwarden-aggregator.8.gz",
            daemon("aggregator", version, "the daemon of a fleet of GPU hosts", rest),
        )
        made = settings("aggregator.toml", version, "aggregator.d", AggregatorConfig(), example)
        put(man / "man5/aggregator.toml.5.gz", made)


main()
