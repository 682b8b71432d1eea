#!/bin/sh
cd /app && exec python3 /solution/repair.py
