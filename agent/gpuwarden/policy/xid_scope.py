"""How far an Xid reaches: the application, or more. From NVIDIA's public Xid catalogue.

Codes not named here reach no further than the application that raised them, or are informational.
"""

# Scope "gpu", "node" or "link" in the vendor's catalogue: the fault exceeds the application.
BEYOND_APPLICATION = frozenset(
    {
        15,
        16,
        18,
        19,
        20,
        21,
        22,
        26,
        27,
        28,
        29,
        30,
        33,
        34,
        35,
        36,
        42,
        46,
        47,
        48,
        49,
        50,
        51,
    }
    | {
        52,
        53,
        54,
        55,
        56,
        57,
        58,
        59,
        61,
        62,
        63,
        64,
        65,
        73,
        74,
        78,
        79,
        81,
        90,
        92,
        93,
        95,
        108,
    }
    | {
        110,
        111,
        112,
        113,
        114,
        115,
        116,
        117,
        118,
        119,
        120,
        121,
        122,
        123,
        124,
        125,
        136,
        137,
    }
    | {
        138,
        140,
        142,
        143,
        144,
        145,
        146,
        147,
        148,
        149,
        150,
        151,
        152,
        153,
        155,
        156,
        157,
        158,
    }
    | {159, 160, 161, 164, 165, 166, 167, 168, 169, 170, 171, 172, 173, 175, 176}
)

# The device (or its firmware) has stopped doing work: 46 GPU stopped processing, 61/62 internal
# micro-controller halt, 79 fallen off the bus, 95 uncontained error, 119/120 GSP time-out or error,
# 140 unrecovered ECC, 143 GPU initialisation, 109 context switch time-out (application scope, but
# the device does not answer while it lasts).
LOCKING = frozenset({46, 61, 62, 79, 95, 109, 119, 120, 140, 143})
