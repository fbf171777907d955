#!/bin/sh
printf "%s\n" "built on"
