#!/bin/sh
# Installs what the end-to-end tests need: Debian packages, and in bin/peers
# those that cannot stand beside each other on one system (mail servers exclude
# each other) and nodemailer, which npm installs. With the argument haraka it
# installs Haraka too, which the benchmarks alone are beside. As root on a Debian
# system it installs what is missing; elsewhere it says which tests are left out,
# which under CI=true is a failure.
set -u
cd "$(dirname "$0")/.." || exit 1
peers=bin/peers
PATH="$PATH:/usr/sbin:/usr/local/sbin:/sbin"
export DEBIAN_FRONTEND=noninteractive

# command or file:package:what is tested with it
needs='
swaks:swaks:swaks as a client
redis-server:redis-server:maps in Redis
/usr/share/postgresql-common/pg_wrapper:postgresql:maps in PostgreSQL
/usr/sbin/slapd:slapd:maps in OpenLDAP
postsrsd:postsrsd:senders rewritten by another implementation
tmux:tmux:postern top on a terminal
multilog:daemontools:the log of qmail-send through the real multilog
cdb:tinycdb:constant databases of another make
tcprules:ucspi-tcp:tcprules and tcpserver beside the real ones
procmail:procmail:procmail in .qmail files
maildrop:maildrop:maildrop in .qmail files
postfix:postfix:Postfix as a next hop and as the peer of the benchmarks
python3:python3:smtplib as a client
spamd:spamd:the plugin spamassassin
rspamd:rspamd:the plugin rspamd
clamd:clamav-daemon:the plugin clamd
postgrey:postgrey:the plugin policyservice
opendkim:opendkim:OpenDKIM as signer and verifier
opendkim-testmsg:opendkim-tools:OpenDKIM as signer and verifier
/usr/lib/python3/dist-packages/dkim/__init__.py:python3-dkim:dkimpy as signer and verifier
/usr/lib/python3/dist-packages/nacl/__init__.py:python3-nacl:dkimpy as signer and verifier
/usr/lib/python3/dist-packages/authres/__init__.py:python3-authres:dkimpy as signer and verifier
dovecot:dovecot-core:Dovecot as a next hop
/usr/lib/dovecot/lmtp:dovecot-lmtpd:Dovecot as a next hop
/usr/bin/python3:python3:aiosmtpd as a next hop
/usr/lib/python3/dist-packages/aiosmtpd/__init__.py:python3-aiosmtpd:aiosmtpd as a next hop
/usr/lib/python3/dist-packages/grpc/__init__.py:python3-grpcio:a plugin in Python
/usr/lib/python3/dist-packages/google/protobuf/__init__.py:python3-protobuf:a plugin in Python
unshare:util-linux:Exim and OpenSMTPD as next hops, nullmailer as a client
/usr/share/perl5/IO/Socket/SSL.pm:libio-socket-ssl-perl:Net::SMTP as a client with TLS
/usr/share/perl5/Authen/SASL.pm:libauthen-sasl-perl:Net::SMTP as a client that logs in
node:nodejs:nodemailer as a client
'

# Unpacked below bin/peers, each in a folder of its own:
# folder:package:program in it:what is tested with it
unpacked='
exim:exim4-daemon-light:usr/sbin/exim4:Exim as a next hop
opensmtpd:opensmtpd:usr/sbin/smtpd:OpenSMTPD as a next hop
nullmailer:nullmailer:usr/sbin/nullmailer-send:nullmailer as a client
'

# By npm, in the version whose hashes t/testdata/FOLDER has: folder:package:what for.
modules='
nodemailer:nodemailer:nodemailer as a client
'
[ "${1:-}" != haraka ] || modules="$modules
haraka:Haraka:the benchmarks beside Haraka
"

# The lines of a table, one word each.
lines() { printf '%s' "$1" | sed 's/ /_/g'; }

# Sets missing, for people, and packages, to install.
look() {
  missing='' packages=''
  for need in $(lines "$needs"); do
    what=${need%%:*} rest=${need#*:}
    if [ ! -e "$what" ] && ! command -v "$what" >/dev/null 2>&1; then
      missing="$missing
  ${rest%%:*}: $(printf '%s' "${rest#*:}" | tr _ ' ')"
      packages="$packages ${rest%%:*}"
    fi
  done
}

# Sets missing and absent, the lines of unpacked that are not there or lack a library.
look_unpacked() {
  absent=''
  for need in $(lines "$unpacked"); do
    name=${need%%:*} rest=${need#*:}
    package=${rest%%:*} rest=${rest#*:}
    program=$peers/$name/${rest%%:*}
    if [ ! -x "$program" ] || ldd "$program" | grep -q 'not found'; then
      missing="$missing
  $package, unpacked in $peers/$name: $(printf '%s' "${rest#*:}" | tr _ ' ')"
      absent="$absent $name:$package"
    fi
  done
}

# unpack FOLDER PACKAGE: the package's files, and its libraries on the system.
unpack() {
  dir=$peers/$1
  rm -rf "$dir" && mkdir -p "$dir" || return 1
  (cd "$dir" && apt-get download -qq -o APT::Sandbox::User=root "$2" >/dev/null) || return 1
  libraries=$(dpkg-deb -f "$dir"/*.deb Depends | tr ',' '\n' | sed 's/^ *//; s/[ (|].*//' | grep '^lib')
  dpkg-deb -x "$dir"/*.deb "$dir" || return 1
  rm -f "$dir"/*.deb
  # shellcheck disable=SC2086
  apt-get install -y -qq --no-install-recommends $libraries >/dev/null
}

# Sets no_modules, those that are not there in their version.
look_modules() {
  no_modules=''
  for need in $(lines "$modules"); do
    name=${need%%:*} rest=${need#*:}
    package=${rest%%:*}
    version=$(sed -n "s/.*\"$package\": \"\([0-9.]*\)\".*/\1/p" "t/testdata/$name/package.json")
    if ! grep -q "\"version\": \"$version\"" "$peers/$name/node_modules/$package/package.json" 2>/dev/null; then
      no_modules="$no_modules $name"
      missing="$missing
  $package $version, by npm, in $peers/$name: $(printf '%s' "${rest#*:}" | tr _ ' ')"
    fi
  done
}

# install_module FOLDER; Debian's npm is a package of its own beside nodejs.
install_module() {
  if ! command -v npm >/dev/null 2>&1; then
    echo 'installing: npm'
    apt-get install -y -qq --no-install-recommends npm >/dev/null || return 1
  fi
  echo "installing: $1 in $peers/$1"
  dir=$peers/$1
  rm -rf "$dir" && mkdir -p "$dir" && cp "t/testdata/$1"/package*.json "$dir" || return 1
  npm ci --prefix "$dir" --ignore-scripts --no-audit --no-fund --omit=optional --loglevel=error >/dev/null
}

install_debian() {
  # Services must not start by themselves: the tests run instances of their own.
  policy=/usr/sbin/policy-rc.d
  ours=''
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 0755 "$policy" && ours=1
  fi
  status=0
  apt-get update -qq || status=1
  if [ $status = 0 ] && [ -n "$packages" ]; then
    echo "installing:$packages"
    # shellcheck disable=SC2086
    apt-get install -y -qq --no-install-recommends $packages >/dev/null || status=1
  fi
  if [ $status = 0 ]; then
    for one in $absent; do
      echo "unpacking: ${one#*:} in $peers/${one%%:*}"
      unpack "${one%%:*}" "${one#*:}" || status=1
    done
  fi
  if [ $status = 0 ]; then
    for one in $no_modules; do
      install_module "$one" || status=1
    done
  fi
  [ -z "$ours" ] || rm -f "$policy"
  return $status
}

look_all() {
  look
  look_unpacked
  look_modules
}

look_all
if [ -n "$packages$absent$no_modules" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  install_debian || echo 'the installation failed' >&2
fi
look_all
if [ -z "$missing" ]; then
  echo 'every package is there'
  exit 0
fi
echo "left out, since these packages are missing:$missing"
if [ "${CI:-}" = true ]; then
  echo 'CI=true: leaving tests out is a failure' >&2
  exit 1
fi
