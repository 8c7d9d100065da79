: "${ORTHANC:?set ORTHANC to the address of the archive, such as http://127.0.0.1:8042; a password belongs in ~/.netrc}"
WORK=$(mktemp -d); trap 'rm -rf "$WORK"' EXIT
WHY=
call() {
    want=$1; shift
    got=$(curl -sS --netrc-optional -o "$WORK/answer" -w '%{http_code}' "$@")
    [ "$got" = "$want" ] || { echo "stopped: $got instead of $want${WHY:+, $WHY}" >&2; exit 1; }
    WHY=
}
expect() { grep -qF -e "$1" -- "$WORK/answer" || { echo "stopped: the answer does not say what was expected" >&2; exit 1; }; }
