"""An archive of `docker save` -> how many files are in its layers, then those that no image should hold by accident, one a
line: the identity of a host, passwords, private keys by name or by content, and files that not everybody may read."""
import json
import re
import sys
import tarfile

NAMES = re.compile(
    r"(^|/)(etc/(machine-id|hostname|g?shadow-?|passwd-|group-|krb5\.keytab|ssl/private/.+|ssh/ssh_host_[^/]+)"
    r"|var/lib/dbus/machine-id|var/lib/systemd/random-seed|id_(rsa|dsa|ecdsa|ed25519)|\.(ssh|gnupg|netrc|pgpass)(/.*)?)$"
)
KEY = re.compile(rb"-----BEGIN ([A-Z]+ )?PRIVATE KEY-----")

files, found = 0, []
with tarfile.open(sys.argv[1]) as archive:
    manifest = json.load(archive.extractfile("manifest.json"))[0]
    for name in manifest["Layers"]:
        with tarfile.open(fileobj=archive.extractfile(name), mode="r:*") as layer:
            for member in layer:
                files += not member.isdir()
                if NAMES.search(member.name):
                    found.append(f"{member.name}: its name")
                if not member.isreg():
                    continue
                if member.mode & 0o004 == 0:
                    found.append(f"{member.name}: mode {member.mode:04o}")
                if KEY.match(layer.extractfile(member).read(64)):
                    found.append(f"{member.name}: a private key")
print("\n".join([str(files), *found]))
