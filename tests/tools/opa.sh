#!/bin/sh
# Builds OPA, the reference for Rego's meaning, and puts it at DEST. Takes minutes the first time.
set -eu
version=v1.22.2
dest=${1:?usage: opa.sh DEST}
if [ -x "$dest" ] && "$dest" version | grep -q "^Version: ${version#v}$"; then
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$(dirname "$dest")"
cd "$work"
go mod init opa-build
# OPA lists no versions of its command, so that `go install …@version` does not find it.
go get -tool "github.com/open-policy-agent/opa@$version"
GOBIN="$work" CGO_ENABLED=0 go install -ldflags="-s -w" github.com/open-policy-agent/opa
mv "$work/opa" "$dest"
