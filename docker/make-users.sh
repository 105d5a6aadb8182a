#!/bin/sh
# Makes the users of a demonstration, once: two, who share a password that nobody has chosen and nobody is shown.
#
# `exchange-users` has its hash, for the exchange; `logins` has names and password, for the load generator. Both lie in the
# working folder, which is a volume, and only their owner can read them. Whoever logs on by hand finds the password there.
set -eu
umask 077
if [ -s logins ]; then
    echo "users are there already"
    exit 0
fi
PASSWORD=$(od -An -N5 -tx1 /dev/urandom | tr -d ' \n') # ten characters, which is what SoupBinTCP has room for
export PASSWORD
rm -f logins.new exchange-users
for name in load1 load2; do
    exchange user add "$name" --users exchange-users --password-env PASSWORD
    echo "$name:$PASSWORD" >> logins.new
done
mv logins.new logins
