"""The simulated driver: C sources, and the compiler that makes programs of them (build.py).

``libnvidia-ml.so.1``
    nvml_*.c over abi.h: the vendor's interface. Reads a shared state file (simstate.h), so that a
    getter costs no system call; what changes something is a message to the driver. Every function
    of symbols.txt is exported: nvml_stub.h answers for those that are not simulated.
``driverd``
    driverd.c and what it links: owns the state. boards.c makes the devices, clients.c takes
    messages (protocol.h), holdings.c, limits.c and compute.c do what they ask, dynamics.c moves
    the values, events.c and kmsg.c tell of faults, control.c with queries.c and injections.c obeys
    the person who simulates.
``workload``
    workload.c, hog.c, serve.c: GPU programs of this driver.
"""
