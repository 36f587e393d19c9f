"""Directions of an array's axes in the patient, from tags, letters or an affine. LPS throughout.

Tolerances: scanners write direction cosines with two to six digits; 0.01 admits two digits and is an angle of
half a degree, far from any sign.
"""

import itertools
import math
from dataclasses import dataclass

from gpuwarden.model.image import ArrayTags, Convention, TagTrouble, Trouble

Vector = tuple[float, float, float]
TOLERANCE = 0.01
LETTERS: dict[str, Vector] = {
    "L": (1.0, 0.0, 0.0),
    "R": (-1.0, 0.0, 0.0),
    "P": (0.0, 1.0, 0.0),
    "A": (0.0, -1.0, 0.0),
    "S": (0.0, 0.0, 1.0),
    "I": (0.0, 0.0, -1.0),
    # PS3.3 C.7.6.1.1.1 says Head and Foot for the same two.
    "H": (0.0, 0.0, 1.0),
    "F": (0.0, 0.0, -1.0),
}
_NAMES = (("R", "L"), ("A", "P"), ("I", "S"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """Unit vectors, one an axis of the array, first axis first; 2 or 3 of them, at right angles."""

    vectors: tuple[Vector, ...]

    @property
    def code(self) -> str:
        """Nearest letters, such as ``IPL`` for an array of (slices, rows, columns)."""
        return "".join(letter(vector) for vector in self.vectors)

    @property
    def handedness(self) -> float:
        """+1 or -1 of three axes; 0 of two, which have none of their own."""
        if len(self.vectors) != 3:
            return 0.0
        first, second, third = self.vectors
        return math.copysign(1.0, dot(cross(first, second), third))


def dot(a: Vector, b: Vector) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: Vector, b: Vector) -> Vector:
    return (
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    )


def negated(a: Vector) -> Vector:
    return (-a[0], -a[1], -a[2])


def unit(values: tuple[float, ...]) -> Vector | None:
    """None: not three finite numbers, or no direction."""
    if len(values) != 3 or not all(math.isfinite(value) for value in values):
        return None
    length = math.hypot(*values)
    if not math.isfinite(length) or length < 1e-12:
        return None
    return (values[0] / length, values[1] / length, values[2] / length)


def letter(vector: Vector) -> str:
    """The nearest of L R P A S I."""
    largest = max(range(3), key=lambda axis: abs(vector[axis]))
    return _NAMES[largest][vector[largest] > 0]


def of_orientation(values: tuple[float, ...]) -> tuple[Vector, Vector] | TagTrouble:
    """(direction of growing rows, of growing columns) from Image Orientation (Patient): an array's order."""
    tag = "ImageOrientationPatient"
    if len(values) != 6:
        return _malformed(tag, f"{len(values)} values and not 6")
    column, row = unit(values[:3]), unit(values[3:])
    if column is None or row is None:
        return _malformed(tag, "no direction")
    lengths = (math.hypot(*values[:3]), math.hypot(*values[3:]))
    if any(abs(length - 1) > TOLERANCE for length in lengths):
        return _malformed(tag, f"vectors of length {lengths[0]:.3g} and {lengths[1]:.3g} and not 1")
    if abs(dot(column, row)) > TOLERANCE:
        return _malformed(tag, f"not at right angles (cosine {dot(column, row):.3g})")
    return row, column


def of_letters(words: tuple[str, ...]) -> tuple[Vector, Vector] | TagTrouble:
    """The same from Patient Orientation: ``("A", "FR")``; each further letter counts half of the one before."""
    tag = "PatientOrientation"
    if len(words) != 2:
        return _malformed(tag, f"{len(words)} values and not 2")
    found = []
    for word in words:
        total = [0.0, 0.0, 0.0]
        seen: set[int] = set()
        for place, each in enumerate(word):
            vector = LETTERS.get(each)
            axis = -1 if vector is None else max(range(3), key=lambda k: abs(vector[k]))
            if vector is None or axis in seen or each in "SI":
                return _malformed(tag, f"letters {word[:8]!r}")
            seen.add(axis)
            for k in range(3):
                total[k] += vector[k] * 0.5**place
        made = unit(tuple(total))
        if made is None:
            return _malformed(tag, "no letters")
        found.append(made)
    column, row = found
    if abs(dot(column, row)) > 0.75:
        return _malformed(tag, "rows and columns grow along one line")
    return row, column


def of_array(tags: ArrayTags) -> Axes | TagTrouble:
    """From a code or an affine."""
    if tags.code is not None and tags.affine is None:
        return _of_code(tags.code)
    if tags.affine is not None and tags.code is None:
        return _of_affine(tags.affine, tags.convention)
    why = Trouble.MISSING if tags.code is None else Trouble.CONTRADICTORY
    return TagTrouble(tag="array", why=why, detail="one of code and affine has to be told")


def _of_code(code: str) -> Axes | TagTrouble:
    vectors = tuple(LETTERS[each] for each in code if each in LETTERS)
    axes = {max(range(3), key=lambda k: abs(vector[k])) for vector in vectors}
    if len(vectors) != len(code) or len(axes) != len(code) or len(code) not in (2, 3):
        return _malformed("code", f"{code[:8]!r} is not letters of different axes, like RAS")
    return Axes(vectors=vectors)


def _of_affine(rows: tuple[tuple[float, ...], ...], convention: Convention) -> Axes | TagTrouble:
    widths = {len(row) for row in rows}
    if len(rows) not in (3, 4) or len(widths) != 1 or not widths <= {2, 3, 4}:
        return _malformed("affine", "not 3x3 to 4x4, nor 3x2 of a plane")
    columns = min(3, len(rows[0]))
    sign = -1.0 if convention is Convention.RAS else 1.0
    vectors: list[Vector] = []
    for k in range(columns):
        vector = unit((sign * rows[0][k], sign * rows[1][k], rows[2][k]))
        if vector is None:
            return _malformed("affine", f"axis {k} has no direction")
        vectors.append(vector)
    for a, b in itertools.combinations(vectors, 2):
        # A gantry's tilt shears by up to 30 degrees; 0.6 leaves every axis its own letter.
        if abs(dot(a, b)) > 0.6:
            return _malformed("affine", "axes that nearly coincide")
    return Axes(vectors=tuple(vectors))


def _malformed(tag: str, detail: str) -> TagTrouble:
    return TagTrouble(tag=tag, why=Trouble.MALFORMED, detail=detail)
