#!/bin/sh
# Installs the Debian packages that the end-to-end tests need. As root on a
# Debian system it installs what is missing; elsewhere it says which tests are
# left out, which under CI=true is a failure.
set -u

# command:package:what is tested with it
needs='
swaks:swaks:swaks as a client
postfix:postfix:Postfix as a next hop and as the peer of the benchmarks
python3:python3:smtplib as a client
spamd:spamd:the plugin spamassassin
'

missing=''
packages=''
for need in $(printf '%s' "$needs" | sed 's/ /_/g'); do
  command=${need%%:*}
  rest=${need#*:}
  package=${rest%%:*}
  if ! PATH="$PATH:/usr/sbin:/usr/local/sbin:/sbin" command -v "$command" >/dev/null 2>&1; then
    missing="$missing
  $package: $(printf '%s' "${rest#*:}" | tr _ ' ')"
    packages="$packages $package"
  fi
done
if [ -z "$packages" ]; then
  echo 'every package is there'
  exit 0
fi

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "installing:$packages"
  export DEBIAN_FRONTEND=noninteractive
  # Services must not start by themselves: the tests run instances of their own.
  policy=/usr/sbin/policy-rc.d
  ours=''
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 0755 "$policy" && ours=1
  fi
  # shellcheck disable=SC2086
  apt-get update -qq && apt-get install -y -qq --no-install-recommends $packages >/dev/null
  status=$?
  [ -z "$ours" ] || rm -f "$policy"
  [ $status = 0 ] && exit 0
  echo 'the installation failed' >&2
fi

echo "left out, since these packages are missing:$missing"
if [ "${CI:-}" = true ]; then
  echo 'CI=true: leaving tests out is a failure' >&2
  exit 1
fi
