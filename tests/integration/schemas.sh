#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Every example under xml-schemas/examples is valid, and every *-invalid.xml is
# not. The schema of an example is the first word of its name. TAP on stdout.
set -u
cd "$(dirname "$0")/../../xml-schemas" || exit 1

if ! command -v xmllint >/dev/null; then
    echo "1..0 # SKIP xmllint is not installed (libxml2-utils)"
    exit 0
fi

number=0
failed=0
for example in examples/*.xml; do
    number=$((number + 1))
    name=$(basename "$example" .xml)
    schema=${name%%-*}.rng
    # 0 valid, 3 invalid; anything else is a broken schema or a missing file.
    xmllint --noout --nonet --relaxng "$schema" "$example" >/dev/null 2>&1
    status=$?
    case $name in
    *-invalid) expected=3 ;;
    *) expected=0 ;;
    esac
    if [ "$status" -eq "$expected" ]; then
        echo "ok $number - $name"
    else
        echo "not ok $number - $name: xmllint said $status instead of $expected"
        failed=1
    fi
done
# A wrong folder must not pass as "nothing to test".
number=$((number + 1))
if [ "$number" -gt 30 ]; then
    echo "ok $number - all examples seen"
else
    echo "not ok $number - only $number examples seen"
    failed=1
fi
echo "1..$number"
exit "$failed"
