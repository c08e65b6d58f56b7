# SPDX-License-Identifier: Apache-2.0
# Sourced by run.sh: the Go package of examples/go. The race detector and the
# strictest check of pointers between Go and C are on.
need go gofmt pkg-config "${CC%% *}"
HOME=$PWD GOPATH=$PWD/path GOCACHE=$PWD/cache GOENV=off
GOPROXY=off GOSUMDB=off GOTOOLCHAIN=local GOWORK=off CGO_ENABLED=1
GOFLAGS=-buildvcs=false
export HOME GOPATH GOCACHE GOENV GOPROXY GOSUMDB GOTOOLCHAIN GOWORK
export CGO_ENABLED GOFLAGS
case $(go env GOVERSION) in
go1.19* | go1.20*)
    GODEBUG=cgocheck=2
    export GODEBUG
    ;;
*)
    GOEXPERIMENT=cgocheck2
    export GOEXPERIMENT
    ;;
esac
cd -- "$SOURCE/examples/go"
unformatted=$(gofmt -l .)
[ -z "$unformatted" ] || {
    echo "gofmt would change: $unformatted" >&2
    exit 1
}
# The race detector needs a runtime for this processor, and the addresses that
# it is used to.
race=-race
echo 'package main; func main() {}' >"$HOME/probe.go"
go run -race "$HOME/probe.go" || {
    race=
    echo 'the race detector does not run here: tests without it' >&2
}
go vet $race ./...
go run $race ./cmd/quickstart
go test $race -count=1 -v ./...
