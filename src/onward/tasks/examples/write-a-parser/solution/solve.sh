#!/bin/sh
exec cp /solution/parse.py /app/parse.py
