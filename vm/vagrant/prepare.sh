# Run once on a fresh machine as root, with the address by which it is reached: makes a DUT of a
# distribution that is reached over ssh, and keeps ssh out of the network under test.
#
# The management card moves into a network namespace of its own, and the distribution's ssh server
# with it: rules under test cannot cut the agent off, its packets are not in the table, and port 22
# is free for what an experiment does with it.
set -eu
address=$1
for tool in ip systemctl systemd-run nsenter; do
	command -v $tool >/dev/null || { echo "the box has no $tool" >&2; exit 1; }
done
# A card and its address: "2: eth0    inet 192.168.121.5/24 brd 192.168.121.255 scope global eth0".
set -- $(ip -4 -o address show to "$address/32")
card=$2 cidr=$4
for unit in ssh sshd ''; do
	! systemctl --quiet is-active "$unit.service" || break
	! systemctl --quiet is-active "$unit.socket" || break
done
[ -n "$unit" ] || {
	echo "the box's ssh server is no service of systemd called ssh or sshd" >&2
	exit 1
}
# What manages the cards is to leave those under test alone.
if command -v nmcli >/dev/null; then
	for other in /sys/class/net/*; do
		[ ! -e "$other/device" ] || nmcli device set "${other##*/}" managed no >/dev/null 2>&1 || :
	done
fi
ip netns add management
settings=/run/systemd/system/$unit.service.d
mkdir -p "$settings"
printf '%s\n' '[Service]' NetworkNamespacePath=/run/netns/management >"$settings/management.conf"
# The connection that runs this ends with the card's move: the rest happens without it.
cat >/run/ctload-management <<-END
	set -e
	ip link set $card netns management
	ip -n management link set lo up
	ip -n management address add $cidr dev $card
	ip -n management link set $card up
	systemctl daemon-reload
	systemctl stop $unit.socket 2>/dev/null || :
	systemctl restart $unit.service
END
systemd-run --quiet --unit=ctload-management /bin/sh /run/ctload-management
