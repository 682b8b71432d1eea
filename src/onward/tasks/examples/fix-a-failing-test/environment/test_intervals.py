import unittest

from intervals import merged


class Merged(unittest.TestCase):
    def test_nothing(self):
        self.assertEqual(merged([]), [])

    def test_apart(self):
        self.assertEqual(merged([(5, 6), (1, 2)]), [(1, 2), (5, 6)])

    def test_overlapping(self):
        self.assertEqual(merged([(1, 4), (3, 7)]), [(1, 7)])

    def test_one_within_another(self):
        self.assertEqual(merged([(1, 9), (3, 4)]), [(1, 9)])

    def test_neighbours_hold_the_same_numbers_as_one(self):
        self.assertEqual(merged([(1, 2), (3, 4)]), [(1, 4)])

    def test_what_is_passed_in_is_not_changed(self):
        given = [(5, 6), (1, 2)]
        merged(given)
        self.assertEqual(given, [(5, 6), (1, 2)])


if __name__ == "__main__":
    unittest.main()
