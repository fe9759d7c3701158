#!/bin/sh
# A foreign program among the services: it asks for every source file that was edited to be indexed anew, and tells how
# large the index is. coserver starts, stops and logs it like any other; it needs to know nothing of coserver, but the
# command line is at hand, and so is the plain SQL `INSERT INTO coserver_job (task, args) VALUES (…)`.
set -u
state=${LIBRARIAN_STATE:-.coserver}
seen=$state/watcher.seen                # a file as old as our last look
told=

# `wait` returns as soon as a signal comes, which a mere `sleep` would sit out.
pause=
trap 'kill $pause 2>/dev/null; exit 0' TERM INT

stdlib=$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
echo "watching $stdlib and $PWD"
touch "$seen"

while :; do
    touch "$seen.now"
    find "$stdlib" "$PWD" \( -name site-packages -o -name __pycache__ -o -name .coserver \) -prune \
        -o -name '*.py' -newer "$seen" -print |
    while IFS= read -r file; do
        job=$(coserver jobs submit librarian.tasks:index_file "$file") &&
            echo "$file was edited; job $job indexes it anew"
    done
    mv "$seen.now" "$seen"

    size=$(du -ck "$state"/library.db* 2>/dev/null | tail -n 1 | cut -f 1)
    if [ "$size" != "$told" ]; then
        echo "the index takes $size KiB"
        told=$size
    fi

    sleep 3 &
    pause=$!
    wait $pause
done
