#!/bin/sh
# Builds SPIRE's server and agent, the reference for the Workload API, into DIR. Takes minutes the first time.
set -eu
version=v1.13.3
dir=${1:?usage: spire.sh DIR}
if [ -x "$dir/spire-server" ] && [ -x "$dir/spire-agent" ] && "$dir/spire-agent" --version 2>&1 | grep -q "^${version#v}"; then
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
cd "$work"
go mod init spire-build
go get -tool "github.com/spiffe/spire/cmd/spire-server@$version" "github.com/spiffe/spire/cmd/spire-agent@$version"
# The server keeps its data in SQLite, which is C.
GOBIN="$work" CGO_ENABLED=1 go install -ldflags="-s -w -X github.com/spiffe/spire/pkg/common/version.gittag=${version#v}" \
    github.com/spiffe/spire/cmd/spire-server
GOBIN="$work" CGO_ENABLED=0 go install -ldflags="-s -w -X github.com/spiffe/spire/pkg/common/version.gittag=${version#v}" \
    github.com/spiffe/spire/cmd/spire-agent
mv "$work/spire-server" "$work/spire-agent" "$dir"
