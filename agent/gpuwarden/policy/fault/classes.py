"""Which class a fault belongs to: by its code where that says more than scope and action do.

Codes are those of NVIDIA's public Xid catalogue; the classes are ours (they choose the remedies).
"""

from gpuwarden.model.repair import FaultClass

OF_XID = {
    **dict.fromkeys((48, 95, 140, 171, 172, 175), FaultClass.ECC),
    **dict.fromkeys((63, 156, 160, 168), FaultClass.REMAP),
    **dict.fromkeys((64, 157, 161), FaultClass.REMAP_FAILED),
    **dict.fromkeys((79, 167), FaultClass.LOST),
    **dict.fromkeys((74, 136, 155, 166, 170, *range(144, 151)), FaultClass.LINK),
    **dict.fromkeys((46, 61, 62, 109, 110, 119, 120, 143, 158, 169), FaultClass.HANG),
    92: FaultClass.PERFORMANCE,
    176: FaultClass.PERFORMANCE,
}


def of_xid(code: int, scope: str, action: str) -> FaultClass:
    """The class of an Xid with its verdict."""
    known = OF_XID.get(code)
    return known if known is not None else of_verdict(scope, action)


def of_verdict(scope: str, action: str) -> FaultClass:
    """The class of a fault of which only scope and action are known."""
    if scope == "app":
        return FaultClass.APPLICATION
    if action in ("ignore", "monitor") or scope == "info":
        return FaultClass.ADVISORY
    if scope == "link":
        return FaultClass.LINK
    if action == "reset_gpu":
        return FaultClass.HANG
    if action == "reboot_node":
        return FaultClass.LOST
    if action == "restart_fabric":
        return FaultClass.FABRIC
    return FaultClass.HARDWARE
