// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
// Reports every regular file that a task outside the host's mount namespace opens, executes or
// maps executable: once per cgroup and name, with its path inside its file system.
//
// Path: dentries are walked from the file up to the root of its file system when that is an overlay
// (an overlay is one container's image and nothing else), else up to the root of the task's mount
// namespace. Symlinks, relative names, chroot, bind mounts and nested namespaces are therefore
// resolved by construction.
// Whatever cannot be reported is counted per cgroup in `losses`; nothing is dropped silently.

#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <stdbool.h>

// The parts of kernel structures that are read; libbpf adjusts the offsets to the running kernel.
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct qstr {
	__u32 hash;
	__u32 len;
	const unsigned char *name;
};
struct super_block {
	__u32 s_dev;
	unsigned long s_magic;
	struct dentry *s_root;
};
struct inode {
	__u16 i_mode;
	unsigned long i_ino;
	__u32 i_generation;
	struct super_block *i_sb;
};
struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
	void *d_fsdata;
};
struct vfsmount {
	struct dentry *mnt_root;
	struct super_block *mnt_sb;
};
struct mnt_namespace;
struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct mnt_namespace *mnt_ns;
	struct vfsmount mnt;
};
struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};
struct file {
	__u32 f_mode;
	struct path f_path;
	struct inode *f_inode;
};
struct hlist_head {
	void *first;
};
struct backing_file {
	struct file file;
	struct path user_path;
};
struct ovl_layer {
	struct vfsmount *mnt;
};
struct ovl_path {
	struct ovl_layer *layer;
	struct dentry *dentry;
};
struct ovl_entry {
	unsigned int __numlower;
	struct ovl_path __lowerstack[1];
};
struct ovl_entry___before_6_5 {
	unsigned int numlower;
	struct ovl_path lowerstack[1];
};
struct ovl_inode {
	struct inode vfs_inode;
	struct dentry *__upperdentry;
	struct ovl_entry *oe;
};
struct ovl_inode___before_6_5 {
	struct inode vfs_inode;
	struct ovl_path lowerpath;
};
struct ovl_inode___before_6_0 {
	struct inode vfs_inode;
	struct inode *lower;
};
struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};
struct files_struct {
	struct fdtable *fdt;
};
struct fs_struct {
	struct path root;
};
struct ns_common {
	unsigned int inum;
};
struct mnt_namespace {
	struct ns_common ns;
};
struct nsproxy {
	struct mnt_namespace *mnt_ns;
};
struct mm_struct {
	unsigned long arg_start, arg_end;
	unsigned long saved_auxv[2];
	struct file *exe_file;
};
struct vm_area_struct {
	unsigned long vm_end;
	unsigned long vm_flags;
	struct file *vm_file;
};
struct thread_info {
	unsigned long flags;
	__u32 status;
};
struct task_struct {
	struct thread_info thread_info;
	int tgid;
	unsigned int personality;
	struct mm_struct *mm;
	struct fs_struct *fs;
	struct files_struct *files;
	struct nsproxy *nsproxy;
	struct task_struct *group_leader;
	char comm[16];
};
struct linux_binprm {
	struct file *executable;
	struct file *file;
	const char *filename;
	const char *interp;
};
struct kernfs_node {
	__u64 id;
};
struct cgroup_root {
	int hierarchy_id;
};
struct cgroup {
	struct kernfs_node *kn;
	struct cgroup_root *root;
};
struct io_cqe {
	__s32 res;
};
struct io_kiocb {
	__u8 opcode;
	__u64 flags;
	struct io_cqe cqe;
};
struct io_open {
	__u32 file_slot;
};
#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long bx, cx, dx, si, di, r8, orig_ax;
};
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
	__u64 regs[31];
	__u64 orig_x0;
	__s32 syscallno;
};
#else
#error "the system call numbers of this architecture are not known here"
#endif
#pragma clang attribute pop

// The kernel ABI that is macro, not type, and therefore not in BTF.
#define S_IFMT 0170000
#define S_IFREG 0100000
#define FMODE_WRITE (1u << 1)
#define FMODE_PATH (1u << 14)
#define VM_EXEC 4
#define PROT_EXEC 4
#define READ_IMPLIES_EXEC 0x0400000
#define AT_NULL 0
#define AT_BASE 7
#define OVERLAYFS_MAGIC 0x794c7630
#define PROC_MAGIC 0x9fa0
#define SYSFS_MAGIC 0x62656572
#define TMPFS_MAGIC 0x01021994
#define CGROUP_MAGIC 0x27e0eb
#define CGROUP2_MAGIC 0x63677270
#define TRACEFS_MAGIC 0x74726163
#define DEBUGFS_MAGIC 0x64626720
#define BPF_FS_MAGIC 0xcafe4a11
#define MNT_NS_INTERNAL (-22l) // in place of a namespace: a mount of the kernel's own
#define IORING_OP_OPENAT 18
#define IORING_OP_OPENAT2 28
#define REQ_F_CQE_SKIP (1u << 6)

// vexstream.evidence.Use
#define USE_OPENED 1
#define USE_EXECUTED 2
#define USE_MAPPED 4
#define USE_REWRITTEN 16

#define HEADER_SPACE 64
#define PATH_END (4096 + HEADER_SPACE + 1)
#define TEXT_MASK 8191
#define MAX_DEPTH 2200
#define SLOTS 4
#define ARGUMENTS_MASK 511

enum kind { KIND_FILE = 1, KIND_CGROUP = 2, KIND_SCRIPT = 3, KIND_ARGUMENTS = 4 };

enum flag {
	EVENT_IN_ROOT = 1,     // the path starts at the root of the task's mount namespace
	EVENT_FROM_TOP = 2,    // the path starts at the root of the file system
	EVENT_ROOT_IS_TOP = 4, // the namespace's root is the root of its file system
	EVENT_AT_HOME = 8,     // the task's root directory or program is on the file's file system
	EVENT_INTERPRETED = 16, // not so, and the task's program is an interpreter
	EVENT_ON_OVERLAY = 32, // the namespace's root is an overlay
};

enum reason {
	LOSS_RING_BUFFER = 1,
	LOSS_PATH_WALK = 2,
	LOSS_IO_URING = 3,
	LOSS_MAP_BUSY = 4,
	LOSS_FILE_GONE = 5,
	LOSS_IMAGE_NAME = 6,
	LOSS_RENAMED = 7,
};

struct config {
	__u64 host_root_inode;
	__u32 host_root_dev;
	__u32 host_mntns;
	__u32 host_root_is_top; // the host's root is the root of its file system
	__u32 io_uring;         // the io_uring programs are attached
	__u32 typed_reads;      // the kernel has bpf_rdonly_cast (6.2)
	__u32 padding;
};

struct event {
	__u64 cgroup;
	__u64 inode; // of a cgroup: when it was made, in ns of CLOCK_MONOTONIC
	__u64 root_inode;
	__u32 dev;
	__u32 root_dev;
	__u32 pid;
	__u32 use;
	__u16 kind;
	__u16 flags;
	__u32 path_bytes;
};

// A name of a file within a directory, as used by a cgroup. The generation and the parent tell a
// reused inode number and a hard link apart.
struct seen_key {
	__u64 cgroup;
	__u64 inode;
	__u64 parent;
	__u64 name;
	__u32 generation;
	__u32 dev;
	__u32 use;
	__u32 how; // EVENT_AT_HOME or EVENT_INTERPRETED
};

struct loss_key {
	__u64 cgroup;
	__u64 reason;
};

struct scratch {
	__u32 busy;
	__u32 start; // the path occupies text[start..PATH_END)
	struct dentry *volatile file; // a pointer out of here is a number to the verifier: it can be mixed
	struct event event;
	char text[2 * (TEXT_MASK + 1) + HEADER_SPACE]; // for every start and length within the mask
};

const volatile struct config config SEC(".rodata.config");

extern void *bpf_rdonly_cast(const void *object, __u32 btf_id) __ksym __weak;

// A read through a typed pointer is one instruction, with the same answer (0) where it faults; one
// by a helper costs some 30 ns, and an open needs two dozen of them. What a hook is given is typed on
// every kernel, and so is what is reached from there.
#define READ(pointer, ...)                                                                         \
	(config.typed_reads ? ___arrow(TYPED(pointer), __VA_ARGS__)                                \
			    : BPF_CORE_READ(pointer, __VA_ARGS__))
#define TYPED(pointer)                                                                             \
	((typeof(pointer))bpf_rdonly_cast(pointer, bpf_core_type_id_kernel(typeof(*(pointer)))))
#define READ_FROM(given, pointer, ...)                                                             \
	((given) ? ___arrow(pointer, __VA_ARGS__) : READ(pointer, __VA_ARGS__))
// The pointer that lies there: in an array, or in a structure of a module, which has no such type.
#define POINTER_AT(address) ((void *)READ((struct hlist_head *)(address), first))

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
} events SEC(".maps");

// Apart from the others, because it wakes up the reader: a new container is to be asked about before
// it is gone again.
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 << 10);
} cgroup_events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 262144);
	__type(key, struct seen_key);
	__type(value, __u8);
} seen SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct loss_key);
	__type(value, __u64);
} losses SEC(".maps");

// Losses that may concern any cgroup: what found no room in `losses`, and lost names of cgroups.
enum unplaced { UNPLACED_LOSS, UNPLACED_CGROUP, UNPLACED_KINDS };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, UNPLACED_KINDS);
	__type(key, __u32);
	__type(value, __u64);
} unplaced_losses SEC(".maps");

// Executed or executable mappings of files that no image holds: memfd, tmpfs.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} memory_files SEC(".maps");

// Several slots, because a faultable tracepoint may be preempted by another on the same CPU.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

// The compiler leaves out a mask that a check before it makes needless; the verifiers of kernels
// before 6.3 or so have forgotten the check when the value gets into another register.
static __always_inline __u32 masked(__u32 value, __u32 mask)
{
	barrier_var(value);
	return value & mask;
}

static __always_inline void count_in(void *map, __u32 index)
{
	__u64 *count = bpf_map_lookup_elem(map, &index);

	if (count)
		__sync_fetch_and_add(count, 1);
}

static __noinline void count_loss(__u64 cgroup, __u64 reason)
{
	struct loss_key key = {.cgroup = cgroup, .reason = reason};
	__u64 *count = bpf_map_lookup_elem(&losses, &key);
	__u64 one = 1;

	if (!count && !bpf_map_update_elem(&losses, &key, &one, BPF_NOEXIST))
		return;
	if (!count)
		count = bpf_map_lookup_elem(&losses, &key);
	if (count)
		__sync_fetch_and_add(count, 1);
	else
		count_in(&unplaced_losses, UNPLACED_LOSS);
}

static __always_inline struct scratch *claim_scratch(void)
{
	for (__u32 i = 0; i < SLOTS; i++) {
		__u32 slot = i;
		struct scratch *scratch = bpf_map_lookup_elem(&scratches, &slot);

		if (scratch && __sync_val_compare_and_swap(&scratch->busy, 0, 1) == 0)
			return scratch;
	}
	return 0;
}

struct walk {
	struct scratch *scratch;
	struct dentry *dentry;
	struct dentry *stop;
	__u64 check;
	bool done;
	bool failed;
};

static __always_inline __u64 mix(__u64 check, __u64 value)
{
	return (check ^ value) * 0x9e3779b97f4a7c15ull;
}

// One step towards the root; writes the name in front of what is there unless only checking.
static __always_inline long walk_step(struct walk *walk, bool write)
{
	struct dentry *dentry = walk->dentry;
	struct dentry *parent = BPF_CORE_READ(dentry, d_parent);
	struct scratch *scratch = walk->scratch;
	const unsigned char *name;
	__u32 len, start;

	if (dentry == walk->stop || dentry == parent) {
		walk->done = true;
		return 1;
	}
	len = READ(dentry, d_name.len);
	name = READ(dentry, d_name.name);
	walk->check = mix(walk->check, (__u64)dentry);
	walk->check = mix(walk->check, (__u64)len << 32 | READ(dentry, d_name.hash));
	walk->dentry = parent;
	if (!write)
		return 0;
	start = scratch->start;
	if (len == 0 || len > 255 || start > PATH_END || start < HEADER_SPACE + 1 + len) {
		walk->failed = true;
		return 1;
	}
	start -= len;
	if (bpf_probe_read_kernel(&scratch->text[masked(start, TEXT_MASK)], masked(len, 255), name)) {
		walk->failed = true;
		return 1;
	}
	start -= 1;
	scratch->text[masked(start, TEXT_MASK)] = '/';
	scratch->start = start;
	return 0;
}

static long write_step(__u32 index, struct walk *walk)
{
	return walk_step(walk, true);
}

static long check_step(__u32 index, struct walk *walk)
{
	return walk_step(walk, false);
}

// Fills the scratch with the path of the dentry. A rename during the walk makes the two passes
// differ; such a path is not to be trusted. The stack is scarce here: 512 bytes are all that the
// functions that call each other may have, which kernels before 6.7 or so round up to 32 for each.
static __noinline struct dentry *walk_path(struct scratch *scratch, struct dentry *dentry,
					   struct dentry *stop)
{
	struct walk walk = {.scratch = scratch, .dentry = dentry, .stop = stop};
	struct dentry *end;
	__u64 check;

	scratch->start = PATH_END;
	bpf_loop(MAX_DEPTH, write_step, &walk, 0);
	if (walk.failed || !walk.done)
		return 0;
	end = walk.dentry;
	check = walk.check;
	walk.dentry = dentry;
	walk.check = 0;
	walk.done = false;
	bpf_loop(MAX_DEPTH, check_step, &walk, 0);
	return walk.done && walk.check == check && walk.dentry == end ? end : 0;
}

// The mount that is the root of the task's mount namespace, also for a task in a chroot: the last
// one on the way up below which nothing but stacked roots follow.
static __always_inline struct mount *namespace_root(struct task_struct *task)
{
	struct vfsmount *root = BPF_CORE_READ(task, fs, root.mnt);
	struct mount *mount, *candidate;

	if (!root)
		return 0;
	mount = (void *)root - bpf_core_field_offset(struct mount, mnt);
	candidate = mount;
	for (int i = 0; i < 16; i++) {
		struct mount *parent = BPF_CORE_READ(mount, mnt_parent);

		if (!parent || parent == mount)
			return candidate;
		if (BPF_CORE_READ(mount, mnt_mountpoint) != BPF_CORE_READ(parent, mnt.mnt_root))
			candidate = parent;
		mount = parent;
	}
	return 0;
}

static __always_inline bool is_pseudo(unsigned long magic)
{
	return magic == PROC_MAGIC || magic == SYSFS_MAGIC || magic == TMPFS_MAGIC ||
	       magic == CGROUP_MAGIC || magic == CGROUP2_MAGIC || magic == TRACEFS_MAGIC ||
	       magic == DEBUGFS_MAGIC || magic == BPF_FS_MAGIC;
}

static __always_inline bool in_host_namespace(struct task_struct *task)
{
	return task->nsproxy->mnt_ns->ns.inum == config.host_mntns;
}

// What overlayfs maps is a file of its lower or upper file system, with the path that the user sees
// in the structure around it. The flag that marks such a file has changed its bit between kernels;
// so the surrounding structure is looked at, and believed when it holds a path of an overlay.
static __always_inline struct dentry *visible_dentry(struct file *file)
{
	struct dentry *dentry = READ(file, f_path.dentry);
	struct backing_file *backing = 0;
	struct super_block *sb;
	struct dentry *seen_by_user;

	if (!bpf_core_field_exists(backing->user_path) ||
	    READ(dentry, d_inode, i_sb, s_magic) == OVERLAYFS_MAGIC)
		return dentry;
	backing = (void *)file - bpf_core_field_offset(struct backing_file, file);
	seen_by_user = READ(backing, user_path.dentry);
	sb = READ(seen_by_user, d_inode, i_sb);
	if (sb && sb == READ(backing, user_path.mnt, mnt_sb) &&
	    READ(sb, s_magic) == OVERLAYFS_MAGIC)
		return seen_by_user;
	return dentry;
}

static __always_inline bool is_rewritten(struct inode *inode, unsigned long magic)
{
	struct ovl_inode *overlay = 0;

	if (magic != OVERLAYFS_MAGIC || !bpf_core_field_exists(overlay->__upperdentry))
		return false;
	overlay = (void *)inode - bpf_core_field_offset(struct ovl_inode, vfs_inode);
	return POINTER_AT(&overlay->__upperdentry) != 0;
}

static __always_inline bool emit_to(void *ring, struct scratch *scratch, __u32 path_bytes,
				    __u64 flags)
{
	__u32 start = scratch->start - sizeof(struct event);

	scratch->event.path_bytes = path_bytes;
	if (start > PATH_END || path_bytes > PATH_END)
		return false;
	start = masked(start, TEXT_MASK);
	bpf_probe_read_kernel(&scratch->text[start], sizeof(struct event), &scratch->event);
	return !bpf_ringbuf_output(ring, &scratch->text[start],
				   sizeof(struct event) + masked(path_bytes, TEXT_MASK), flags);
}

static __always_inline bool emit(struct scratch *scratch, __u32 path_bytes)
{
	return emit_to(&events, scratch, path_bytes, BPF_RB_NO_WAKEUP);
}

struct comparison {
	struct scratch *one;
	struct scratch *other;
	bool differ;
};

static long compare_step(__u32 index, struct comparison *comparison)
{
	__u32 at = comparison->one->start + index * sizeof(__u64);

	if (at >= PATH_END)
		return 1;
	at = masked(at, TEXT_MASK);
	comparison->differ = *(__u64 *)&comparison->one->text[at] !=
			     *(__u64 *)&comparison->other->text[at];
	return comparison->differ;
}

// Nothing is ever written behind PATH_END: the last word may reach beyond it.
static __noinline bool same_path(struct scratch *one, struct scratch *other)
{
	struct comparison comparison = {.one = one, .other = other};

	if (one->start != other->start)
		return false;
	bpf_loop(PATH_END / sizeof(__u64) + 1, compare_step, &comparison, 0);
	return !comparison.differ;
}

struct image_file {
	struct ovl_path path;
	bool unnamed; // the image has the file, and nothing tells where
};

// Where the image itself has the file of an overlay. Before 6.0 only the names by which the image
// has a file are known, and not that of a new hard link to it.
static __always_inline struct image_file image_file(struct dentry *dentry)
{
	void *inode = BPF_CORE_READ(dentry, d_inode);
	struct ovl_inode *current = 0;
	struct ovl_inode___before_6_5 *older = 0;
	struct ovl_inode___before_6_0 *oldest = 0;
	struct ovl_entry___before_6_5 *names = 0;
	struct ovl_entry *entry;
	struct image_file file = {};

	if (bpf_core_field_exists(current->oe)) {
		current = inode - bpf_core_field_offset(struct ovl_inode, vfs_inode);
		entry = BPF_CORE_READ(current, oe);
		if (entry && BPF_CORE_READ(entry, __numlower)) {
			file.path.layer = BPF_CORE_READ(entry, __lowerstack[0].layer);
			file.path.dentry = BPF_CORE_READ(entry, __lowerstack[0].dentry);
		}
	} else if (bpf_core_field_exists(older->lowerpath)) {
		older = inode - bpf_core_field_offset(struct ovl_inode___before_6_5, vfs_inode);
		file.path.layer = BPF_CORE_READ(older, lowerpath.layer);
		file.path.dentry = BPF_CORE_READ(older, lowerpath.dentry);
	} else if (bpf_core_field_exists(names->lowerstack)) {
		names = BPF_CORE_READ(dentry, d_fsdata);
		if (names && BPF_CORE_READ(names, numlower)) {
			file.path.layer = BPF_CORE_READ(names, lowerstack[0].layer);
			file.path.dentry = BPF_CORE_READ(names, lowerstack[0].dentry);
		} else if (bpf_core_field_exists(oldest->lower)) {
			oldest = inode -
				 bpf_core_field_offset(struct ovl_inode___before_6_0, vfs_inode);
			file.unnamed = BPF_CORE_READ(oldest, lower) != 0;
		}
	}
	return file;
}

// A file that was renamed or linked in the container is still the image's file: reports the name
// that the image has for it, where that is another one.
static __noinline int send_image_name(struct scratch *visible, struct dentry *dentry)
{
	struct image_file file = image_file(dentry);
	struct ovl_layer *layer = file.path.layer;
	struct scratch *scratch;
	struct dentry *layer_root;
	int result = 0;

	if (file.unnamed)
		return LOSS_IMAGE_NAME;
	if (!file.path.dentry || !layer)
		return 0;
	scratch = claim_scratch();
	if (!scratch)
		return LOSS_RING_BUFFER;
	layer_root = BPF_CORE_READ(layer, mnt, mnt_root);
	// Another end than the layer's root: overlayfs found it by its handle and knows no name.
	if (walk_path(scratch, file.path.dentry, layer_root) != layer_root) {
		result = LOSS_IMAGE_NAME;
	} else if (!same_path(visible, scratch)) {
		scratch->event = visible->event;
		scratch->event.use &= ~USE_REWRITTEN;
		if (!emit(scratch, PATH_END - scratch->start))
			result = LOSS_RING_BUFFER;
	}
	scratch->busy = 0;
	return result;
}

static __always_inline bool is_host_root(__u32 dev, __u64 inode, bool top)
{
	return dev == config.host_root_dev &&
	       (config.host_root_is_top ? top : inode == config.host_root_inode);
}

// Fills in the root of the task's mount namespace; its dentry, or 0 for one that is the host's: a
// service of the host with a mount namespace of its own, or a runtime before pivot_root.
static __always_inline struct dentry *describe_root(struct mount *root, struct event *event)
{
	struct dentry *dentry = BPF_CORE_READ(root, mnt.mnt_root);
	bool is_top = BPF_CORE_READ(root, mnt.mnt_sb, s_root) == dentry;
	bool overlay = BPF_CORE_READ(root, mnt.mnt_sb, s_magic) == OVERLAYFS_MAGIC;

	event->root_dev = BPF_CORE_READ(root, mnt.mnt_sb, s_dev);
	event->root_inode = BPF_CORE_READ(dentry, d_inode, i_ino);
	event->flags = (is_top ? EVENT_ROOT_IS_TOP : 0) | (overlay ? EVENT_ON_OVERLAY : 0);
	return is_host_root(event->root_dev, event->root_inode, is_top) ? 0 : dentry;
}

// Returns the reason of a loss, 0 when the event is in the ring buffer, -1 when it is no event.
static __noinline int send_file(struct task_struct *task, struct dentry *dentry,
				const struct seen_key *key)
{
	struct mount *root = namespace_root(task);
	struct super_block *sb = BPF_CORE_READ(dentry, d_inode, i_sb);
	struct dentry *root_dentry, *top, *stop, *end;
	struct scratch *scratch;
	struct event *event;
	bool overlay;
	int result = LOSS_PATH_WALK;

	if (!root)
		return LOSS_PATH_WALK;
	scratch = claim_scratch();
	if (!scratch)
		return LOSS_RING_BUFFER;
	scratch->file = dentry;
	dentry = scratch->file;
	event = &scratch->event;
	root_dentry = describe_root(root, event);
	if (!root_dentry) {
		scratch->busy = 0;
		return -1;
	}
	top = BPF_CORE_READ(sb, s_root);
	overlay = BPF_CORE_READ(sb, s_magic) == OVERLAYFS_MAGIC;
	stop = overlay ? top : root_dentry;
	end = walk_path(scratch, dentry, stop);
	if (!end)
		end = walk_path(scratch, dentry, stop);
	if (end && (end == root_dentry || end == top)) {
		event->cgroup = key->cgroup;
		event->inode = key->inode;
		event->dev = key->dev;
		event->pid = BPF_CORE_READ(task, tgid);
		event->use = key->use;
		event->kind = KIND_FILE;
		event->flags |= (end == root_dentry ? EVENT_IN_ROOT : 0) |
				(end == top ? EVENT_FROM_TOP : 0) |
				key->how;
		result = emit(scratch, PATH_END - scratch->start) ? 0 : LOSS_RING_BUFFER;
		if (!result && overlay)
			result = send_image_name(scratch, dentry);
	}
	scratch->busy = 0;
	return result;
}

// The task lives on the file system: what it reads there it uses as its own, also when the file system
// is another container's (chroot /proc/<pid>/root).
static __always_inline bool is_at_home(struct task_struct *task, struct super_block *sb,
				       struct super_block *root)
{
	return sb == root || task->mm->exe_file->f_path.dentry->d_inode->i_sb == sb;
}

// Whether a program is called so, up to its version: python3.11, php-fpm8.2, and not node_exporter.
static __always_inline bool is_called(__u64 name, const char *text)
{
	__u32 length = __builtin_strlen(text);
	__u64 word = 0, mask = length < 8 ? (1ull << 8 * length) - 1 : ~0ull;
	__u8 next = length < 8 ? name >> 8 * length : 0;

	for (__u32 i = 0; i < length; i++)
		word |= (__u64)text[i] << 8 * i;
	return (name & mask) == word && next != '_' && !((next | 0x20) >= 'a' && (next | 0x20) <= 'z');
}

static __always_inline bool is_shell(__u64 name)
{
	return is_called(name, "sh") || is_called(name, "bash") || is_called(name, "dash") ||
	       is_called(name, "ash") || is_called(name, "zsh") || is_called(name, "ksh") ||
	       is_called(name, "mksh");
}

// Runs what it reads. `ld` is a program that was started through its dynamic linker.
static __noinline bool runs_what_it_reads(__u64 name)
{
	return is_shell(name) || is_called(name, "python") || is_called(name, "pypy") ||
	       is_called(name, "node") || is_called(name, "nodejs") || is_called(name, "deno") ||
	       is_called(name, "bun") || is_called(name, "ruby") || is_called(name, "php") ||
	       is_called(name, "perl") || is_called(name, "java") || is_called(name, "dotnet") ||
	       is_called(name, "mono") || is_called(name, "pwsh") || is_called(name, "lua") ||
	       is_called(name, "luajit") || is_called(name, "tclsh") || is_called(name, "R") ||
	       is_called(name, "julia") || is_called(name, "guile") || is_called(name, "beam") ||
	       is_called(name, "ld");
}

// By the name of its program, which a bind mount takes from the host, or by that under which it was
// started. Scanners, which read everything, are compiled programs.
static __noinline bool is_interpreter(struct task_struct *task)
{
	__u64 program = 0, started = 0;

	bpf_probe_read_kernel_str(&program, sizeof(program),
				  BPF_CORE_READ(task, mm, exe_file, f_path.dentry, d_name.name));
	BPF_CORE_READ_STR_INTO(&started, task, group_leader, comm);
	return runs_what_it_reads(program) || runs_what_it_reads(started);
}

static __always_inline int report_dentry(struct task_struct *task, struct dentry *dentry, __u32 use,
					 bool given)
{
	struct inode *inode = READ_FROM(given, dentry, d_inode);
	struct super_block *sb, *root;
	struct seen_key key = {};
	unsigned long magic;
	__u8 yes = 1;
	int result;

	if ((READ_FROM(given, inode, i_mode) & S_IFMT) != S_IFREG)
		return 0;
	sb = READ_FROM(given, inode, i_sb);
	magic = READ_FROM(given, sb, s_magic);
	root = task->fs->root.mnt->mnt_sb;
	if (is_pseudo(magic) && sb != root) {
		if (magic == TMPFS_MAGIC && use != USE_OPENED)
			count_in(&memory_files, 0);
		return 0;
	}
	key.cgroup = bpf_get_current_cgroup_id();
	key.inode = READ_FROM(given, inode, i_ino);
	key.parent = READ_FROM(given, dentry, d_parent, d_inode, i_ino);
	key.name = (__u64)READ_FROM(given, dentry, d_name.len) << 32 |
		   READ_FROM(given, dentry, d_name.hash);
	key.generation = READ_FROM(given, inode, i_generation);
	key.dev = READ_FROM(given, sb, s_dev);
	key.use = is_rewritten(inode, magic) ? use | USE_REWRITTEN : use;
	if (is_at_home(task, sb, root))
		key.how = EVENT_AT_HOME;
	else if (magic == OVERLAYFS_MAGIC && use == USE_OPENED && is_interpreter(task))
		key.how = EVENT_INTERPRETED;
	if (bpf_map_lookup_elem(&seen, &key))
		return 0;
	result = send_file(task, dentry, &key);
	if (result > 0)
		count_loss(key.cgroup, result);
	// Only now: an event that was dropped is tried again at the next use of the file.
	if (result == 0)
		bpf_map_update_elem(&seen, &key, &yes, BPF_ANY);
	return 0;
}

static __noinline int report(struct task_struct *task, struct file *file, __u32 use)
{
	if (!file || (READ(file, f_mode) & FMODE_PATH))
		return 0;
	return report_dentry(task, visible_dentry(file), use, false);
}

static __always_inline struct file *file_of(struct task_struct *task, __u32 fd)
{
	struct fdtable *table = READ(task, files, fdt);
	struct file **files = READ(table, fd);

	return fd < READ(table, max_fds) ? POINTER_AT(&files[fd]) : 0;
}

struct found {
	struct file *file;
	unsigned long end;
	bool executable;
};

static long on_vma(struct task_struct *task, struct vm_area_struct *vma, struct found *found)
{
	found->file = BPF_CORE_READ(vma, vm_file);
	found->end = BPF_CORE_READ(vma, vm_end);
	found->executable = BPF_CORE_READ(vma, vm_flags) & VM_EXEC;
	return 0;
}

// Fails with -EBUSY while another thread changes the mappings; such moments are short.
static __always_inline long find_vma(struct task_struct *task, __u64 address, struct found *found)
{
	long error = -1;

	for (int i = 0; i < 8 && error; i++) {
		error = bpf_find_vma(task, address, on_vma, found, 0);
		if (error == -2) // ENOENT: nothing is mapped there any more
			break;
	}
	return error;
}

enum call {
	CALL_OTHER,
	CALL_OPEN,
	CALL_MMAP,
	CALL_OLD_MMAP,
	CALL_MPROTECT,
	CALL_URING,
	CALL_RENAME, // or a hard link: another name for a file
};

// What a number means, to native programs and to 32-bit ones. One look at this tells nearly all calls
// apart from those that matter: every call of every process comes here.
#define NATIVE(call) (call)
#define COMPAT(call) ((call) << 4)
#define BOTH(call) (NATIVE(call) | COMPAT(call))
#if defined(__TARGET_ARCH_x86)
static const __u8 calls[] = {
	[2] = NATIVE(CALL_OPEN), [85] = NATIVE(CALL_OPEN),
	[257] = NATIVE(CALL_OPEN), [304] = NATIVE(CALL_OPEN),
	[5] = COMPAT(CALL_OPEN), [8] = COMPAT(CALL_OPEN),
	[295] = COMPAT(CALL_OPEN), [342] = COMPAT(CALL_OPEN),
	[437] = BOTH(CALL_OPEN),
	[9] = NATIVE(CALL_MMAP) | COMPAT(CALL_RENAME),
	[192] = COMPAT(CALL_MMAP), [90] = COMPAT(CALL_OLD_MMAP),
	[10] = NATIVE(CALL_MPROTECT), [329] = NATIVE(CALL_MPROTECT),
	[125] = COMPAT(CALL_MPROTECT), [380] = COMPAT(CALL_MPROTECT),
	[425] = BOTH(CALL_URING),
	[82] = NATIVE(CALL_RENAME), [86] = NATIVE(CALL_RENAME), [264] = NATIVE(CALL_RENAME),
	[265] = NATIVE(CALL_RENAME), [316] = NATIVE(CALL_RENAME),
	[38] = COMPAT(CALL_RENAME), [302] = COMPAT(CALL_RENAME),
	[303] = COMPAT(CALL_RENAME), [353] = COMPAT(CALL_RENAME),
};
#define TS_COMPAT 2
static __always_inline bool is_compat(struct task_struct *task)
{
	return task->thread_info.status & TS_COMPAT;
}
#define CALL_NUMBER(regs) ((__u32)(regs)->orig_ax & ~0x40000000u) // the bit marks the x32 ABI
#define CALL_PROT(regs) (regs)->dx
#define CALL_ADDRESS(regs, compat) ((compat) ? (regs)->bx : (regs)->di)
#define CALL_LENGTH(regs, compat) ((compat) ? (regs)->cx : (regs)->si)
#define CALL_MMAP_FD(regs, compat) ((compat) ? (regs)->di : (regs)->r8)
#else
static const __u8 calls[] = {
	[56] = NATIVE(CALL_OPEN), [265] = NATIVE(CALL_OPEN),
	[5] = COMPAT(CALL_OPEN), [8] = COMPAT(CALL_OPEN),
	[322] = COMPAT(CALL_OPEN), [371] = COMPAT(CALL_OPEN),
	[437] = BOTH(CALL_OPEN),
	[222] = NATIVE(CALL_MMAP), [192] = COMPAT(CALL_MMAP),
	[226] = NATIVE(CALL_MPROTECT), [288] = NATIVE(CALL_MPROTECT),
	[125] = COMPAT(CALL_MPROTECT), [394] = COMPAT(CALL_MPROTECT),
	[425] = BOTH(CALL_URING),
	[37] = NATIVE(CALL_RENAME), [38] = BOTH(CALL_RENAME), [276] = NATIVE(CALL_RENAME),
	[9] = COMPAT(CALL_RENAME), [329] = COMPAT(CALL_RENAME),
	[330] = COMPAT(CALL_RENAME), [382] = COMPAT(CALL_RENAME),
};
#define TIF_32BIT (1ul << 22)
static __always_inline bool is_compat(struct task_struct *task)
{
	return task->thread_info.flags & TIF_32BIT;
}
#define CALL_NUMBER(regs) ((__u32)(regs)->syscallno)
#define CALL_PROT(regs) (regs)->regs[2]
#define CALL_ADDRESS(regs, compat) (regs)->orig_x0
#define CALL_LENGTH(regs, compat) (regs)->regs[1]
#define CALL_MMAP_FD(regs, compat) (regs)->regs[4]
#endif

static __noinline int report_open(struct task_struct *task, __u32 fd)
{
	struct file *file = file_of(task, fd);

	if (!file) // another thread closed it already
		count_loss(bpf_get_current_cgroup_id(), LOSS_FILE_GONE);
	else
		report(task, file, USE_OPENED);
	return 0;
}

#define FD_UNKNOWN (-2)

// `fd` is -1 for memory without a file.
static __noinline int report_mapping(struct task_struct *task, __u64 address, int fd)
{
	struct found found = {};
	struct file *file = 0;
	long error = find_vma(task, address, &found);

	if (!error) {
		file = found.executable ? found.file : 0;
	} else if (fd != -1) {
		if (fd >= 0)
			file = file_of(task, fd);
		if (!file)
			count_loss(bpf_get_current_cgroup_id(), LOSS_MAP_BUSY);
	}
	if (file)
		report(task, file, USE_MAPPED);
	return 0;
}

static __noinline int report_range(struct task_struct *task, __u64 address, __u64 length)
{
	__u64 end = address + length;

	for (int i = 0; i < 16 && address < end; i++) {
		struct found found = {};

		if (find_vma(task, address, &found))
			break; // also when another thread has unmapped it since
		if (found.file && found.executable)
			report(task, found.file, USE_MAPPED);
		address = found.end;
	}
	if (address < end)
		count_loss(bpf_get_current_cgroup_id(), LOSS_MAP_BUSY);
	return 0;
}

// The root file system of the task's mount namespace is the host's, or an overlay, which knows a
// file of the image also after it was renamed.
static __noinline bool knows_renamed(struct task_struct *task)
{
	struct mount *root = namespace_root(task);
	struct event unused;

	if (!root || !describe_root(root, &unused))
		return true;
	return BPF_CORE_READ(root, mnt.mnt_sb, s_magic) == OVERLAYFS_MAGIC;
}

// What the program asks to be readable may be made executable too: by its personality.
static __always_inline bool asks_for_code(struct task_struct *task, unsigned long protection)
{
	return (protection & PROT_EXEC) || (task->personality & READ_IMPLIES_EXEC);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_sys_exit, struct pt_regs *regs, long result)
{
	__u32 number = CALL_NUMBER(regs);
	struct task_struct *task;
	enum call call;
	bool compat;

	if (number >= sizeof(calls) || !calls[number])
		return 0;
	task = (void *)bpf_get_current_task_btf();
	compat = is_compat(task);
	call = compat ? calls[number] >> 4 : calls[number] & 15;
	if (call == CALL_OTHER || (result < 0 && result >= -4095) || in_host_namespace(task))
		return 0;
	if (compat)
		result = (__u32)result;
	if (call == CALL_OPEN)
		report_open(task, result);
	else if (call == CALL_MMAP && asks_for_code(task, CALL_PROT(regs)))
		report_mapping(task, result, (int)CALL_MMAP_FD(regs, compat));
	else if (call == CALL_OLD_MMAP)
		report_mapping(task, result, FD_UNKNOWN);
	else if (call == CALL_MPROTECT && asks_for_code(task, CALL_PROT(regs)))
		report_range(task, CALL_ADDRESS(regs, compat), CALL_LENGTH(regs, compat));
	else if (call == CALL_URING) {
		if (!config.io_uring || !knows_renamed(task))
			count_loss(bpf_get_current_cgroup_id(), LOSS_IO_URING);
	} else if (call == CALL_RENAME && !knows_renamed(task))
		count_loss(bpf_get_current_cgroup_id(), LOSS_RENAMED);
	return 0;
}

// The kernel's own checks, where it lets programs of these kinds in: no descriptor or mapping to look
// up, no race with whoever changes it, and whatever the use goes through. They take the place of the
// end of system calls, which costs every call of every process. One of the two kinds is attached.
// `hook_calls` tells whether it is called at all: an LSM program that is not configured never is.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} hook_calls SEC(".maps");

static __always_inline void on_use(struct file *file, __u32 use)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();

	if (!in_host_namespace(task))
		report(task, file, use);
}

// What is open already is opened once more by overlayfs, on the file system below. The two have
// different inodes. Before 6.5 they have one path, later each has its own.
static __always_inline bool is_opened_below(struct file *file)
{
	return file->f_inode != file->f_path.dentry->d_inode ||
	       visible_dentry(file) != file->f_path.dentry;
}

// By a mount that no task can name: overlayfs has one of each of its layers, and opens there what it
// copies to its own layer when a task changes the owner, the mode or the name of a file. No task has
// read that.
static __always_inline bool is_opened_by_kernel(struct file *file)
{
	struct vfsmount *mnt = file->f_path.mnt;
	struct mount *mount;

	if (file->f_inode->i_sb->s_magic == OVERLAYFS_MAGIC)
		return false;
	mount = (void *)mnt - bpf_core_field_offset(struct mount, mnt);
	return (long)READ(mount, mnt_ns) == MNT_NS_INTERNAL;
}

static __always_inline void on_file_open(struct file *file)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	__u32 zero = 0;
	__u64 *called = bpf_map_lookup_elem(&hook_calls, &zero);

	if (called && !*called)
		*called = 1;
	if (in_host_namespace(task))
		return;
	if (!is_opened_below(file)) {
		if (!is_opened_by_kernel(file))
			report_dentry(task, file->f_path.dentry, USE_OPENED, true);
	} else if (file->f_mode & FMODE_WRITE) // only now it was copied into the container's own layer
		report(task, file, USE_OPENED);
}

static __always_inline void on_mmap(struct file *file, unsigned long protection)
{
	if (file && asks_for_code((void *)bpf_get_current_task_btf(), protection))
		on_use(file, USE_MAPPED);
}

static __always_inline void on_mprotect(struct vm_area_struct *vma, unsigned long protection)
{
	struct file *file = vma->vm_file;

	if (file && (protection & PROT_EXEC))
		on_use(file, USE_MAPPED);
}

static __always_inline void on_new_name(void)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();

	if (!in_host_namespace(task) && !knows_renamed(task))
		count_loss(bpf_get_current_cgroup_id(), LOSS_RENAMED);
}

SEC("lsm/file_open")
int BPF_PROG(on_lsm_file_open, struct file *file, int verdict)
{
	on_file_open(file);
	return verdict;
}

SEC("lsm/mmap_file")
int BPF_PROG(on_lsm_mmap_file, struct file *file, unsigned long asked, unsigned long protection,
	     unsigned long flags, int verdict)
{
	on_mmap(file, protection);
	return verdict;
}

SEC("lsm/file_mprotect")
int BPF_PROG(on_lsm_file_mprotect, struct vm_area_struct *vma, unsigned long asked,
	     unsigned long protection, int verdict)
{
	on_mprotect(vma, protection);
	return verdict;
}

SEC("lsm/inode_rename")
int BPF_PROG(on_lsm_inode_rename, struct inode *from, struct dentry *old, struct inode *to,
	     struct dentry *new, int verdict)
{
	on_new_name();
	return verdict;
}

SEC("lsm/inode_link")
int BPF_PROG(on_lsm_inode_link, struct dentry *old, struct inode *to, struct dentry *new,
	     int verdict)
{
	on_new_name();
	return verdict;
}

SEC("fentry/security_file_open")
int BPF_PROG(on_fentry_file_open, struct file *file)
{
	on_file_open(file);
	return 0;
}

SEC("fentry/security_mmap_file")
int BPF_PROG(on_fentry_mmap_file, struct file *file, unsigned long protection)
{
	on_mmap(file, protection);
	return 0;
}

SEC("fentry/security_file_mprotect")
int BPF_PROG(on_fentry_file_mprotect, struct vm_area_struct *vma, unsigned long asked,
	     unsigned long protection)
{
	on_mprotect(vma, protection);
	return 0;
}

SEC("fentry/security_inode_rename")
int BPF_PROG(on_fentry_inode_rename)
{
	on_new_name();
	return 0;
}

SEC("fentry/security_inode_link")
int BPF_PROG(on_fentry_inode_link)
{
	on_new_name();
	return 0;
}

// Address at which the kernel mapped the ELF interpreter; 0 when the program has none.
static __always_inline __u64 interpreter_base(struct task_struct *task)
{
	struct mm_struct *mm = BPF_CORE_READ(task, mm);
	void *vector = (void *)mm + bpf_core_field_offset(struct mm_struct, saved_auxv);
	bool narrow = false;

	for (int i = 0; i < 32; i++) {
		__u64 pair[2] = {};
		__u32 half[2] = {};

		if (narrow) {
			bpf_probe_read_kernel(half, sizeof(half), vector + i * sizeof(half));
			pair[0] = half[0];
			pair[1] = half[1];
		} else {
			bpf_probe_read_kernel(pair, sizeof(pair), vector + i * sizeof(pair));
			// Keys are small: a 32-bit program's vector has its first value in the upper half.
			if (i == 0 && pair[0] >> 32) {
				narrow = true;
				continue; // the first pair is never AT_BASE
			}
		}
		if (pair[0] == AT_BASE)
			return pair[1];
		if (pair[0] == AT_NULL)
			break;
	}
	return 0;
}

// Text of the exec that just happened, the first bytes of it.
static __always_inline long exec_text(struct task_struct *task, struct linux_binprm *bprm,
				      char *text, enum kind kind)
{
	__u64 start, length;

	if (kind == KIND_SCRIPT)
		return bpf_probe_read_kernel_str(text, PATH_END - HEADER_SPACE,
						 BPF_CORE_READ(bprm, filename)) - 1;
	start = BPF_CORE_READ(task, mm, arg_start);
	length = BPF_CORE_READ(task, mm, arg_end) - start;
	if (length > ARGUMENTS_MASK)
		length = ARGUMENTS_MASK;
	length = masked(length, ARGUMENTS_MASK);
	return bpf_probe_read_user(text, length, (void *)start) ? -1 : length;
}

// The kernel has closed a `#!` script by the time its interpreter runs: only its name is left. What an
// interpreter is told to run it opens as it does any file: only its arguments tell that this is code.
static __noinline int send_exec(struct task_struct *task, struct linux_binprm *bprm, __u32 kind)
{
	struct mount *root = namespace_root(task);
	struct event event = {
		.cgroup = bpf_get_current_cgroup_id(),
		.pid = BPF_CORE_READ(task, tgid),
		.use = USE_EXECUTED,
		.kind = kind,
	};
	struct scratch *scratch;
	bool sent = false;
	long length;

	if (!root || !describe_root(root, &event))
		return 0;
	scratch = claim_scratch();
	if (scratch) {
		length = exec_text(task, bprm, &scratch->text[HEADER_SPACE], kind);
		if (length > 0 && length < PATH_END) {
			scratch->start = HEADER_SPACE;
			scratch->event = event;
			sent = emit(scratch, length);
		}
		scratch->busy = 0;
	}
	if (!sent)
		count_loss(event.cgroup, LOSS_RING_BUFFER);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *unused, int old_pid, struct linux_binprm *bprm)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct file *passed = BPF_CORE_READ(bprm, executable);
	struct found found = {};
	__u64 base;
	long error;

	if (in_host_namespace(task))
		return 0;
	// The last of the chain, which the kernel maps: by that it is told from a script.
	report(task, BPF_CORE_READ(bprm, file), USE_EXECUTED | USE_MAPPED);
	if (BPF_CORE_READ(bprm, interp) != BPF_CORE_READ(bprm, filename))
		send_exec(task, bprm, KIND_SCRIPT);
	if (is_interpreter(task))
		send_exec(task, bprm, KIND_ARGUMENTS);
	if (passed) // binfmt_misc hands the program to its interpreter as an open file
		report(task, passed, USE_EXECUTED);
	base = interpreter_base(task);
	if (!base)
		return 0;
	error = find_vma(task, base, &found);
	if (error)
		count_loss(bpf_get_current_cgroup_id(), LOSS_MAP_BUSY);
	else if (found.file)
		report(task, found.file, USE_MAPPED);
	return 0;
}

SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(on_cgroup_mkdir, struct cgroup *cgroup, const char *path)
{
	struct scratch *scratch;
	long length;

	if (BPF_CORE_READ(cgroup, root, hierarchy_id) != 0) // 0 is the unified hierarchy
		return 0;
	scratch = claim_scratch();
	if (!scratch) {
		count_in(&unplaced_losses, UNPLACED_CGROUP);
		return 0;
	}
	length = bpf_probe_read_kernel_str(&scratch->text[HEADER_SPACE], PATH_END - HEADER_SPACE,
					   path);
	if (length > 1 && length < PATH_END) {
		scratch->start = HEADER_SPACE;
		scratch->event = (struct event){
			.cgroup = BPF_CORE_READ(cgroup, kn, id),
			.inode = bpf_ktime_get_ns(),
			.kind = KIND_CGROUP,
		};
		if (!emit_to(&cgroup_events, scratch, length - 1, BPF_RB_FORCE_WAKEUP))
			count_in(&unplaced_losses, UNPLACED_CGROUP);
	}
	scratch->busy = 0;
	return 0;
}

static __always_inline bool is_uring_open(struct io_kiocb *request)
{
	__u8 opcode = BPF_CORE_READ(request, opcode);

	return opcode == IORING_OP_OPENAT || opcode == IORING_OP_OPENAT2;
}

// An open into the ring's own file table, or one without a completion, cannot be followed.
SEC("tp_btf/io_uring_submit_req")
int on_uring_submit(unsigned long long *context)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct io_kiocb *request = (void *)context[0];
	struct io_open *open = (void *)request;

	if (!is_uring_open(request) || in_host_namespace(task))
		return 0;
	if ((BPF_CORE_READ(request, flags) & REQ_F_CQE_SKIP) || BPF_CORE_READ(open, file_slot))
		count_loss(bpf_get_current_cgroup_id(), LOSS_IO_URING);
	return 0;
}

SEC("tp_btf/io_uring_complete")
int on_uring_complete(unsigned long long *context)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct io_kiocb *request = (void *)context[1];
	struct io_open *open = (void *)request;
	int result;

	if (!is_uring_open(request) || in_host_namespace(task))
		return 0;
	result = BPF_CORE_READ(request, cqe.res);
	if (result >= 0 && !BPF_CORE_READ(open, file_slot))
		report_open(task, result);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
