#!/usr/bin/env bash
set -Eeuo pipefail

if [ "$1" = serve ]; then
    set -- id -un
fi
if [ "$(id -u)" = 0 ]; then
    mkdir -p /var/lib/app/data
    chown -R app:app /var/lib/app
    exec setpriv --reuid=app --regid=app --clear-groups -- "${BASH_SOURCE[0]}" "$@"
fi
echo "home: $(stat -c %U /var/lib/app/data)"
exec "$@"
