import collections


def totals(path):
    counts = collections.Counter()
    with open(path) as lines:
        for line in lines:
            name, count = line.strip().split(",")
            counts[name.strip("\"")] += int(count)
    return counts
