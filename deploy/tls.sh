#!/bin/bash
# Makes a certificate authority and one certificate for all nodes of a cluster, for RAY_USE_TLS.
#
#   deploy/tls.sh ~/.ray/tls 192.168.1.10 192.168.1.11 192.168.1.12
#
# The authority's own key is used once and deleted. For another node, generate all files again.
set -euo pipefail
if [ $# -lt 2 ]; then
  echo "usage: $0 FOLDER ADDRESS...   (the addresses of all nodes, the head's first)" >&2
  exit 2
fi
folder=$1
shift
names="IP:127.0.0.1,DNS:localhost"
for address in "$@"; do
  names="$names,IP:$address"
done
umask 077
mkdir -p "$folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
openssl req -x509 -newkey rsa:3072 -nodes -days 3650 -subj "/CN=quarterturn cluster" \
  -keyout "$work/ca.key" -out "$folder/ca.crt" 2> /dev/null
openssl req -newkey rsa:3072 -nodes -subj "/CN=quarterturn node" \
  -keyout "$folder/node.key" -out "$work/node.csr" 2> /dev/null
printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$names" > "$work/names"
openssl x509 -req -in "$work/node.csr" -days 3650 -extfile "$work/names" \
  -CA "$folder/ca.crt" -CAkey "$work/ca.key" -CAcreateserial -out "$folder/node.crt" 2> /dev/null
echo "$folder: ca.crt, node.crt and node.key, for $names"
