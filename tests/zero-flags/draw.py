"""An archive's list of packages on standard input -> twenty program packages, drawn with a fixed seed from the 400 that
most other packages ask for: no installation counts can be had offline, and what others depend on, recommend or suggest
is what people install. Names on the command line are not drawn."""
import collections
import random
import re
import sys

SECTIONS = set("admin database editors games graphics interpreters mail math misc net news science shells sound text "
               "utils vcs video web".split())
FIELDS = ("Depends", "Pre-Depends", "Recommends", "Suggests")
packages = {}
for stanza in sys.stdin.read().split("\n\n"):
    fields = dict(re.findall(r"^([A-Za-z-]+): (.*)$", stanza, re.M))
    if "Package" in fields:
        packages[fields["Package"]] = fields

asked = collections.Counter()
for fields in packages.values():
    names = {re.split(r"[ :(]", choice.strip())[0]
             for field in FIELDS for choice in re.split(r"[,|]", fields.get(field, "")) if choice.strip()}
    asked.update(names)

NOT = re.compile(r"(^lib|^python3?-|^ruby-|^node-|^fonts?-|^gir1|-(common|data|doc|dev|dbg|dbgsym|plugins?|modules?|utils-common|i18n|all|themes?)$)")
def is_program(name):
    fields = packages.get(name, {})
    return (fields.get("Section") in SECTIONS and not NOT.search(name) and fields.get("Essential") != "yes"
            and int(fields.get("Installed-Size", 0)) > 30 and fields.get("Architecture") == "amd64")

ranked = sorted((name for name in asked if is_program(name)), key=lambda name: (-asked[name], name))[:400]
left = [name for name in ranked if name not in sys.argv[1:]]
print("\n".join(sorted(random.Random("minimage").sample(left, 20))))
