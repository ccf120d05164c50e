#!/bin/sh
# Watches over one task and outlives the daemon that started it.
#
#   supervisor.sh detach DIRECTORY PYTHON LAUNCHER    returns at once; the rest goes on as a child of init
#   supervisor.sh watch  DIRECTORY PYTHON LAUNCHER    claims the start, runs the task, records how it ended
#
# Standard output is the starter's pipe: it gets a reason if the start fails, and its end if the task runs.
# Files (all in DIRECTORY): supervisor (who claimed the start), child (written by LAUNCHER), task.log, exit.
set -u
umask 077
mode=$1 directory=$2 python=$3 launcher=$4

if [ "$mode" = detach ]; then
    sh "$0" watch "$directory" "$python" "$launcher" </dev/null &
    exit 0
fi

# Signals meant for the task must not end its supervisor. The launcher undoes this for the task.
trap '' HUP INT QUIT TERM USR1 USR2 PIPE ALRM

cd "$directory" 2>/dev/null || { echo "its directory is gone"; exit 1; }

# proc(5): the start time is field 22; the name, field 2, may hold spaces and brackets.
read -r stat <"/proc/$$/stat"
read -r boot </proc/sys/kernel/random/boot_id
set -- ${stat##*) }
shift 19

# A link appears whole or not at all, and only once: of two supervisors one starts the task, the other leaves.
echo "$$ $1 $boot" >"supervisor.$$" || { echo "cannot write to its directory"; exit 1; }
ln "supervisor.$$" supervisor 2>/dev/null
claimed=$?
rm -f "supervisor.$$"
[ "$claimed" -eq 0 ] || exit 0

exec 3>&1 >>task.log 2>&1
"$python" -I -S "$launcher" &
child=$!
exec 3>&-

wait "$child"
code=$?

# What the task left behind in its process group ends with it, as in a container.
kill -KILL -- "-$child" 2>/dev/null

echo "$code" >exit.new && { sync exit.new 2>/dev/null || sync; } && mv exit.new exit && sync . 2>/dev/null
exit 0
