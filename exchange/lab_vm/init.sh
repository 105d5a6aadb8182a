#!/bin/busybox sh
# The first program of the emulated machine: drivers, the files of the machine outside, and over them memory that can be
# written. It ends by becoming enter.sh, in a root that is all of this together.
box=/bin/busybox
give_up() {
    $box echo "lab-vm: $1"
    $box poweroff -f
}
$box mkdir -p /proc /sys /dev /lower /upper /root-of-all
$box mount -t proc proc /proc
$box mount -t sysfs sysfs /sys
$box mount -t devtmpfs devtmpfs /dev
for module in $($box cat /modules/order); do
    $box insmod "/modules/$module" || give_up "the driver $module cannot be loaded"
done
options=trans=virtio,version=9p2000.L,msize=512000
$box mount -t 9p -o "$options,cache=loose,ro" host /lower || give_up "the files of the machine outside cannot be mounted"
$box mount -t tmpfs -o mode=755,size=75% tmpfs /upper
$box mkdir /upper/files /upper/work
$box mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work overlay /root-of-all ||
    give_up "memory cannot be laid over the files of the machine outside"
cd /root-of-all || give_up "no root"
$box mkdir -p proc sys dev run
for folder in proc sys dev; do
    $box mount --move /$folder $folder
done
$box mount -t tmpfs -o mode=755 tmpfs run
$box mkdir run/lab-vm
$box cp /bin/busybox /lab-vm/* run/lab-vm/
exec $box switch_root /root-of-all /run/lab-vm/busybox sh /run/lab-vm/enter.sh
