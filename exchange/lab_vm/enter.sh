#!/bin/busybox sh
# The second program of the emulated machine: what a system has beside its files, then the one command or the shell.
# Its lines to the machine outside are ports 1 (output), 2 (errors) and 3 (status) of the virtio console. At the end of
# output and errors stands the word in the file "end", so that nothing is lost on the way; then the machine outside ends us.
folder=/run/lab-vm
box=$folder/busybox
options=trans=virtio,version=9p2000.L,msize=512000
exec 9>/dev/vport0p3
$box mkdir -p /dev/pts /dev/shm /dev/hugepages /lib/modules
$box mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
$box mount -t tmpfs -o mode=1777 tmpfs /dev/shm
$box mount -t hugetlbfs hugetlbfs /dev/hugepages
for name in fd:fd stdin:fd/0 stdout:fd/1 stderr:fd/2; do
    $box ln -sfn "/proc/self/${name#*:}" "/dev/${name%%:*}"
done
$box mount -t 9p -o "$options,cache=loose,ro" modules /lib/modules
while read -r tag path; do
    $box mount -t 9p -o "$options,cache=mmap" "$tag" "$path"
done <$folder/writable
$box hostname lab-vm
$box ip link set lo up
PATH=/usr/sbin:/usr/bin:/sbin:/bin modprobe -a $($box cat $folder/drivers) >/dev/console 2>&1
$box echo up >&9
if [ -e $folder/terminal ]; then
    $box setsid -c /bin/sh $folder/job </dev/hvc0 >/dev/hvc0 2>&1
    status=$?
    $box cat $folder/end >/dev/vport0p1
    $box cat $folder/end >/dev/vport0p2
else
    $box mkfifo $folder/output $folder/errors
    $box cat $folder/output >/dev/vport0p1 &
    $box cat $folder/errors >/dev/vport0p2 &
    exec 7>$folder/output 8>$folder/errors
    /bin/sh $folder/job </dev/null >&7 2>&8 7>&- 8>&- 9>&-
    status=$?
    $box cat $folder/end >&7
    $box cat $folder/end >&8
fi
$box echo "ended $status" >&9
while :; do
    $box sleep 3600
done
