/**
 * The functions a guest may import, what each costs, and lists made of them.
 *
 * Never: a function here that is not bounded by its price; `http_request`,
 * `var_get` and `var_set` are in no list a guest can be given.
 *
 * @module
 */

/** One function a module may import, and on what terms. */
export interface MeterImport {
  module: string;
  name: string;
  /** Fuel for each call. */
  price: number;
  /** Fuel for a length among its parameters: `units` for each `per` of them. */
  length?: ImportLength;
  /** Answer this instead of calling it: it is never reached. */
  answer?: number;
}

/** The price of a length: `units` for each `per` (a power of two) of it. */
export interface ImportLength {
  param: number;
  units: number;
  per: number;
}

/** What any call to an import costs, unless its row says otherwise. */
export const IMPORT_PRICE = 2_000;

/** Extism's own functions. */
export const EXTISM_ENV = "extism:host/env";
/** The functions of this host. */
export const EXTISM_USER = "extism:host/user";
/** The system interface of C, Go and JavaScript guests. */
export const WASI = "wasi_snapshot_preview1";

type Terms = Omit<Partial<MeterImport>, "module" | "name">;

function rows(
  module: string,
  names: string,
  terms: Readonly<Record<string, Terms>> = {},
): readonly MeterImport[] {
  return names.trim().split(/\s+/).map((name) =>
    Object.freeze({ module, name, price: IMPORT_PRICE, ...terms[name] })
  );
}

/** Extism's functions by what must be granted before a guest may have them. */
export const EXTISM_IMPORTS = Object.freeze({
  /** Input, output and the blocks between guest and host: always. */
  kernel: rows(
    EXTISM_ENV,
    `input_length input_offset input_load_u8 input_load_u64 output_set
    error_set length length_unsafe alloc free load_u8 load_u64 store_u8
    store_u64`,
    {
      // Each `alloc` adds a block and sums all blocks there are, so the price
      // must keep their number small; a block is made before it is refused, so
      // its bytes are paid one by one.
      alloc: { price: 100_000, length: { param: 0, units: 1, per: 1 } },
    },
  ),
  /** With any `config` grant. */
  config: rows(EXTISM_ENV, "config_get"),
  /** With the `log` grant. */
  log: rows(
    EXTISM_ENV,
    "log_trace log_debug log_info log_warn log_error get_log_level",
  ),
  /** With the grant each needs. */
  user: rows(
    EXTISM_USER,
    `carapace_http carapace_kv_get carapace_kv_set carapace_kv_delete
    carapace_kv_list carapace_message carapace_schedule carapace_emit`,
  ),
  /** For modules that import it; with read and write of `/dev/null` only. */
  wasi: rows(
    WASI,
    `args_get args_sizes_get environ_get environ_sizes_get clock_res_get
    clock_time_get fd_advise fd_allocate fd_close fd_datasync fd_fdstat_get
    fd_fdstat_set_flags fd_fdstat_set_rights fd_filestat_get
    fd_filestat_set_size fd_filestat_set_times fd_pread fd_prestat_get
    fd_prestat_dir_name fd_pwrite fd_read fd_readdir fd_renumber fd_seek fd_sync
    fd_tell fd_write path_create_directory path_filestat_get
    path_filestat_set_times path_link path_open path_readlink
    path_remove_directory path_rename path_symlink path_unlink_file poll_oneoff
    proc_exit proc_raise sched_yield random_get sock_accept sock_recv sock_send
    sock_shutdown`,
    {
      // A wait holds the thread without burning fuel: it answers "not supported".
      poll_oneoff: { answer: 52 },
      random_get: { length: { param: 1, units: 8, per: 1 } },
      fd_pread: { length: { param: 2, units: IMPORT_PRICE, per: 1 } },
      fd_pwrite: { length: { param: 2, units: IMPORT_PRICE, per: 1 } },
      fd_read: { length: { param: 2, units: IMPORT_PRICE, per: 1 } },
      fd_write: { length: { param: 2, units: IMPORT_PRICE, per: 1 } },
    },
  ),
  /** Never: the door out and the store that is not ours. */
  never: rows(
    EXTISM_ENV,
    `http_request http_status_code http_headers var_get var_set`,
  ),
});

/** What the owner granted, as far as imports go. */
export interface ImportGrants {
  config?: boolean;
  log?: boolean;
  wasi?: boolean;
  /** Names in `extism:host/user`. */
  user?: readonly string[];
}

/** The list for {@linkcode MeterPolicy.imports} that these grants make. */
export function importsFor(grants: ImportGrants = {}): readonly MeterImport[] {
  return [
    ...EXTISM_IMPORTS.kernel,
    ...grants.config ? EXTISM_IMPORTS.config : [],
    ...grants.log ? EXTISM_IMPORTS.log : [],
    ...grants.wasi ? EXTISM_IMPORTS.wasi : [],
    ...EXTISM_IMPORTS.user.filter(({ name }) => grants.user?.includes(name)),
  ];
}
