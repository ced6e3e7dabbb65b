/* SPDX-License-Identifier: Apache-2.0 */
#include "src/provider_process/mount_info.h"

struct field {
  const char* at;
  size_t bytes;
};
struct row {
  uint64_t id;
  struct field mount_point;
  struct field type;
};

/* Types that hold ordinary files. Everything else is taken for an interface of the kernel: a type
 * missing here costs a user a folder, one too many would open the host. */
static const char* const kFileTypes[] = {
    "ext2",  "ext3",  "ext4",   "xfs",     "btrfs", "bcachefs", "f2fs",     "zfs",    "jfs",
    "tmpfs", "ramfs", "rootfs", "overlay", "aufs",  "erofs",    "squashfs", "romfs",  "cramfs",
    "nfs",   "nfs4",  "cifs",   "smb3",    "ceph",  "9p",       "virtiofs", "fuse",   "fuseblk",
    "vfat",  "exfat", "ntfs",   "ntfs3",   "udf",   "iso9660",  "ecryptfs", "nilfs2", "hfsplus"};

static int equals(struct field field, const char* text) {
  size_t n = 0;
  while (n < field.bytes && text[n] == field.at[n] && text[n] != 0) ++n;
  return n == field.bytes && text[n] == 0;
}

static int holds_files(struct field type) {
  for (size_t i = 0; i < sizeof kFileTypes / sizeof kFileTypes[0]; ++i)
    if (equals(type, kFileTypes[i])) return 1;
  /* "fuse.<name>" */
  const struct field head = {type.at, 5};
  return type.bytes > 5 && equals(head, "fuse.");
}

static struct field next_field(const char** at, const char* end) {
  struct field field = {*at, 0};
  while (*at < end && **at != ' ') ++*at;
  field.bytes = (size_t)(*at - field.at);
  if (*at < end) ++*at;
  return field;
}

/* Takes one line off `text`: id parent major:minor root mount-point options … - type … */
static int next_row(const char** text, size_t* bytes, struct row* row) {
  if (*bytes == 0) return 0;
  const char* at = *text;
  const char* const stop = at + *bytes;
  const char* end = at;
  while (end < stop && *end != '\n') ++end;
  *text = end < stop ? end + 1 : end;
  *bytes = (size_t)(stop - *text);

  const struct field id = next_field(&at, end);
  row->id = 0;
  for (size_t i = 0; i < id.bytes; ++i) row->id = row->id * 10 + (uint64_t)(id.at[i] - '0');
  for (int skipped = 0; skipped < 3; ++skipped) next_field(&at, end);
  row->mount_point = next_field(&at, end);
  while (at < end && !equals(next_field(&at, end), "-")) continue;
  row->type = next_field(&at, end);
  return 1;
}

int wx_mount_allowed(const char* text, size_t bytes, uint64_t id) {
  struct row row;
  while (next_row(&text, &bytes, &row))
    if (row.id == id) return holds_files(row.type);
  return 0;
}

/* Undoes the \ooo escapes. The length, or `capacity` when it does not fit. */
static size_t decode(struct field field, char* out, size_t capacity) {
  size_t length = 0;
  for (size_t i = 0; i < field.bytes && length < capacity; ++i, ++length) {
    char c = field.at[i];
    if (c == '\\' && i + 3 < field.bytes) {
      c = (char)((field.at[i + 1] - '0') << 6 | (field.at[i + 2] - '0') << 3 |
                 (field.at[i + 3] - '0'));
      i += 3;
    }
    out[length] = c;
  }
  if (length < capacity) out[length] = 0;
  return length;
}

/* Where the part of `path` below `folder` starts; 0 when it is not below. */
static size_t below_offset(const char* path, const char* folder) {
  size_t n = 0;
  while (folder[n] != 0 && folder[n] == path[n]) ++n;
  if (folder[n] != 0) return 0;
  if (n == 1) return path[1] != 0 ? 1 : 0; /* folder is "/" */
  return path[n] == '/' && path[n + 1] != 0 ? n + 1 : 0;
}

int wx_next_forbidden(struct wx_mount_cursor* cursor, const char* folder, char* below,
                      size_t capacity) {
  struct row row;
  while (next_row(&cursor->text, &cursor->bytes, &row)) {
    if (holds_files(row.type)) continue;
    const size_t length = decode(row.mount_point, below, capacity);
    if (length >= capacity) {
      cursor->too_long = 1;
      return 0;
    }
    const size_t offset = below_offset(below, folder);
    if (offset == 0) continue;
    for (size_t i = offset; i <= length; ++i) below[i - offset] = below[i];
    return 1;
  }
  return 0;
}
