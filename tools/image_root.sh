#!/bin/sh
# Lay out what the image has of this project: image_root.sh WHEEL FOLDER
set -eu
wheel=$1 root=$2
home=/opt/teleport

mkdir -p "$root$home" "$root/usr/local/bin" "$root/etc" "$root/var/lib"
python3 -m pip --python $home/bin/python install --quiet --root-user-action=ignore \
    --no-index --no-deps --no-compile --target "$root$home/app" "$wheel"
$home/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash -s "$root" "$root$home/app"

# On the PATH of every shell, also of those that a node starts.
for command in teleport tctl tsh; do
    mv "$root$home/app/bin/$command" "$root/usr/local/bin/$command"
    head -n 1 "$root/usr/local/bin/$command" | grep -qx "#!$home/bin/python.*"
done
rmdir "$root$home/app/bin"
rm "$root$home"/app/*.dist-info/direct_url.json # where the wheel was

# The user, and the one folder that is its own.
printf 'teleport:x:65532:\n' | cat /etc/group - >"$root/etc/group"
printf 'teleport:x:65532:65532::/var/lib/teleport:/usr/sbin/nologin\n' | cat /etc/passwd - >"$root/etc/passwd"
install -d -m 0700 -o 65532 -g 65532 "$root/var/lib/teleport"
