"""Makers of scanners by the many names they write: a bounded set, fit to be a segment or a label."""

OTHER = "other"
NONE = "not-told"
# Beginnings of Manufacturer (0008,0070) as files carry it, in capitals.
_NAMES = (
    ("GE", "ge"),
    ("GENERAL ELECTRIC", "ge"),
    ("SIEMENS", "siemens"),
    ("PHILIPS", "philips"),
    ("TOSHIBA", "canon"),
    ("CANON", "canon"),
    ("FUJI", "fujifilm"),
    ("HITACHI", "fujifilm"),
    ("HOLOGIC", "hologic"),
    ("LORAD", "hologic"),
    ("AGFA", "agfa"),
    ("CARESTREAM", "carestream"),
    ("KODAK", "carestream"),
    ("SAMSUNG", "samsung"),
    ("UIH", "united"),
    ("SHIMADZU", "shimadzu"),
    ("KONICA", "konica"),
    ("ESAOTE", "esaote"),
    ("MINDRAY", "mindray"),
)
_MODALITIES = frozenset(
    {"CT", "MR", "PT", "NM", "MG", "CR", "DX", "US", "XA", "RF", "OT", "SC", "SEG", "IO", "OP"}
)


def maker_of(manufacturer: str | None) -> str:
    """``ge``, ``siemens`` and so on; ``other``, ``not-told``."""
    said = (manufacturer or "").strip().upper()
    if not said:
        return NONE
    for beginning, name in _NAMES:
        # "GE" begins a word, not "GENORAY".
        if said.startswith(beginning) and not (beginning == "GE" and said[2:3].isalpha()):
            return name
    return OTHER


def modality_of(modality: str | None) -> str:
    """The code as it is where it is a known one."""
    said = (modality or "").strip().upper()
    return said if said in _MODALITIES else (OTHER if said else NONE)
