#!/bin/sh
cd /app && exec python3 /solution/answer.py
