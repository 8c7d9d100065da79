from=${1:?name the folder with the files of the study} to=${2:?name a new folder for the copies}
mkdir "$to" "$to.bak"
value() { dcmdump -q +p +L -Un +P "$1" "$2" | sed -n "s/^($1) .. \[\(.*\)\] *#.*/\1/p"; }
find "$from" -type f | sort > "$to.list"
n=0
while IFS= read -r file; do
    [ "$(value 0020,000d "$file")" = UID ] || continue
    CHECKS || { echo "stopped: file $((n + 1)) of the study carries another value than the one decided on" >&2; exit 1; }
    n=$((n + 1)) copy="$to/$(printf %06d "$n").dcm"
    cp "$file" "$copy"
    k=$(dcmdump -q +P 0400,0561 "$copy" | grep -c '^  (fffe,e000)') || true
    dcmodify EDITS "$copy"
    mv "$copy.bak" "$to.bak/"
done < "$to.list"
rm "$to.list"
[ "$n" -eq COUNT ] || { echo "stopped: $n files of the study, COUNT expected" >&2; exit 1; }
echo "$n copies changed in $to; the unchanged ones are in $to.bak"
