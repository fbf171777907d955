#!/bin/bash
# usage: ask PAGE COMMAND...
# Starts a server, asks it for a page, and stops it.
page=$1
shift
"$@" || exit
exec 3<>/dev/tcp/127.0.0.1/8080
printf 'GET %s HTTP/1.0\r\n\r\n' "$page" >&3
grep -v -e ^Date -e ^Last -e ^ETag <&3
kill -QUIT "$(cat /run/nginx.pid)"
