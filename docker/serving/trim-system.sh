#!/bin/sh
# Takes out of a Debian with Python what a service never runs: package manager, Perl, pip, documentation.
# dpkg's record stays and is true, so that scanners know what is left.
set -eu

for package in apt libapt-pkg6.0 debian-archive-keyring gpgv python3-pip python3-pip-whl python3-setuptools \
    python3-setuptools-whl python3-pkg-resources python3-wheel e2fsprogs libext2fs2 logsave perl libperl5.36 \
    perl-modules-5.36 libgdbm-compat4 libdb5.3 libp11-kit0 libgnutls30 libunistring2 libgcrypt20 perl-base; do
    if dpkg-query --status "$package" >/dev/null 2>&1; then
        dpkg --purge --force-all "$package" >/dev/null 2>&1
    fi
done
rm -rf /usr/share/doc /usr/share/man /usr/share/locale /usr/share/perl* /usr/lib/*-linux-gnu/perl* \
    /usr/lib/*-linux-gnu/gconv /usr/share/python-wheels /var/cache/* /var/log/* /var/lib/apt /usr/include
for lib in /usr/lib/python3.11 /usr/local/lib/python3.11; do
    rm -rf "$lib"/ensurepip "$lib"/idlelib "$lib"/test "$lib"/tkinter "$lib"/turtledemo "$lib"/lib2to3 \
        "$lib"/pydoc_data "$lib"/config-3.11-* "$lib"/site-packages/pip* "$lib"/site-packages/setuptools*
done
