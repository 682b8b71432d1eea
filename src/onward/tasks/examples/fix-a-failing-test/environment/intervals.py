"""Intervals of whole numbers. `(start, end)` stands for start, start + 1, … end; start is never above end."""


def merged(intervals):
    """The fewest intervals that hold exactly the same numbers as all of these together, sorted by their starts.

    The intervals may come in any order, overlap, touch, or lie within each other. What is passed in is not changed.
    """
    result = []
    for start, end in sorted(intervals):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], end)
        else:
            result.append((start, end))
    return result
