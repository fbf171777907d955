"""Names of packages, one a line -> how many MB they and everything that they depend on take in ROOT."""
import re
import sys

root = sys.argv[1]
packages, provides = {}, {}
for stanza in open(f"{root}/var/lib/dpkg/status", encoding="utf-8").read().split("\n\n"):
    fields = dict(re.findall(r"^([A-Za-z-]+): (.*)$", stanza, re.M))
    if "ok installed" not in fields.get("Status", ""):
        continue
    packages.setdefault(fields["Package"], fields)
    for name in re.split(r",\s*", fields.get("Provides", "")):
        provides.setdefault(name.split(" ")[0], fields["Package"])

todo = [line.strip().split(":")[0] for line in sys.stdin if line.strip()]
seen = set()
while todo:
    name = todo.pop()
    name = name if name in packages else provides.get(name)
    if name is None or name in seen:
        continue
    seen.add(name)
    for field in ("Depends", "Pre-Depends"):
        for group in re.split(r",\s*", packages[name].get(field, "")):
            todo += [re.split(r"[ :]", choice.strip())[0] for choice in group.split("|")][:1]
print("%.1f" % (sum(int(packages[name].get("Installed-Size", 0)) for name in seen) * 1024 / 1e6))
