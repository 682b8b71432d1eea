#!/bin/sh
cd /app || exit 1
: > diary.txt
last=0 lines=0
while [ $lines -lt 30 ]; do
    now=$(date +%s)
    if [ "$now" -gt "$last" ]; then
        echo "$now" >> diary.txt
        last=$now lines=$((lines + 1))
    fi
    sleep 0.2
done
