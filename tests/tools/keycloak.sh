#!/bin/sh
# Puts Keycloak into DIR, a real authorization server, by Maven. Quick when it is there.
set -eu
version=26.7.3
dir=${1:?usage: keycloak.sh DIR}
if [ -x "$dir/bin/kc.sh" ] && grep -q "$version" "$dir/version.txt"; then
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
command -v java >/dev/null
mvn -q -B dependency:copy -Dartifact="org.keycloak:keycloak-quarkus-dist:$version:zip" -DoutputDirectory="$work"
python3 -m zipfile -e "$work/keycloak-quarkus-dist-$version.zip" "$work"
chmod +x "$work/keycloak-$version/bin/kc.sh"
rm -rf "$dir"
mkdir -p "$(dirname "$dir")"
mv "$work/keycloak-$version" "$dir"
