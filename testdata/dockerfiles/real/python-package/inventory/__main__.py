import sys

from inventory.totals import totals

for name, count in sorted(totals(sys.argv[1]).items()):
    print(name, count)
