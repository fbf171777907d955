#!/usr/bin/perl
use strict;
use warnings;
use Report;
printf "%d\n", Report::total(@ARGV);
