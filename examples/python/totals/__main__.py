import collections
import sys

counts = collections.Counter(sys.argv[1:])
print("it works:", sum(map(int, counts.elements())), "of", len(counts))
