/* SPDX-License-Identifier: Apache-2.0 */
/* c_test PROVIDER: the C ABI used well and badly, from C. */
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "waxvm_c.h"
#include "waxvm_c_identity.h"

static void test_null(waxvm_supervisor* host) {
  waxvm_result* result = NULL;
  waxvm_program* program = NULL;
  waxvm_error error = WAXVM_ERROR_INIT;
  waxvm_program_close(NULL);
  waxvm_grants_close(NULL);
  waxvm_image_close(NULL);
  waxvm_result_close(NULL);
  waxvm_supervisor_close(NULL);
  waxvm_supervisor_stop(NULL);
  CHECK(waxvm_supervisor_open(WAXVM_PROVIDER_PROCESS, NULL, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(strstr(error.message, "NULL") != NULL && error.code == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_run_file(NULL, "x", NULL, &result, NULL) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_run_file(host, NULL, NULL, &result, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_run_file(host, "x", NULL, NULL, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_run(host, NULL, NULL, &result, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_program_open_file(NULL, &program, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_program_open_file("x", NULL, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_program_open_bytes(NULL, 4, "x", &program, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_grants_open(NULL, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_grants_add_clock(NULL, &error) == WAXVM_INVALID_ARGUMENT);
  waxvm_image* image = NULL;
  const waxvm_image* layers[] = {NULL};
  CHECK(waxvm_grants_add_image(NULL, NULL, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_image_open_tar(NULL, NULL, &image, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_image_open_erofs("x", NULL, NULL, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_image_open_oci("/nothing/here", NULL, &image, &error) == WAXVM_NOT_FOUND);
  CHECK(waxvm_image_open_tar("/nothing/here", "sha1:x", &image, &error) != WAXVM_OK);
  CHECK(waxvm_image_open_stack(layers, 1, &image, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_image_open_stack(layers, 0, &image, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(image == NULL && strstr(error.message, "no layers") != NULL);
  CHECK(waxvm_program_open_image(NULL, "/x", &program, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_call_reply(NULL, "x", 1) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_call_label(NULL) == NULL);
  CHECK(waxvm_call_stop_requested(NULL) == 0);
  CHECK(waxvm_result_outcome(NULL) == -1 && waxvm_result_exit_code(NULL) == -1);
  CHECK(waxvm_result_limit(NULL) == NULL && waxvm_result_fault(NULL) == NULL);
  size_t bytes = 7;
  CHECK(waxvm_result_output(NULL, &bytes) == NULL && bytes == 0);
  CHECK(waxvm_bytes_data(NULL, &bytes) == NULL && bytes == 0);
  waxvm_bytes_close(NULL);
  CHECK(waxvm_result_error_output(NULL, NULL) == NULL && waxvm_result_report_json(NULL) == NULL);
}

static int last_outcome;

static waxvm_status run_with(waxvm_supervisor* host, const waxvm_run_options* options,
                             waxvm_error* error) {
  waxvm_result* result = NULL;
  const waxvm_status code = waxvm_run_file(host, guest("true_musl"), options, &result, error);
  last_outcome = waxvm_result_outcome(result);
  CHECK((code == WAXVM_OK) == (result != NULL));
  waxvm_result_close(result);
  return code;
}

static void test_versions(waxvm_supervisor* host) {
  waxvm_error error = WAXVM_ERROR_INIT;
  waxvm_run_options options = WAXVM_RUN_OPTIONS_INIT;
  CHECK(run_with(host, &options, &error) == WAXVM_OK);
  CHECK(error.code == WAXVM_OK && error.message[0] == '\0');
  options.struct_size = 0;
  CHECK(run_with(host, &options, &error) == WAXVM_INVALID_ARGUMENT);
  /* A caller compiled against the first header: what follows its structure is not looked at. */
  options = (waxvm_run_options)WAXVM_RUN_OPTIONS_INIT;
  options.struct_size = offsetof(waxvm_run_options, stop);
  options.stop = (const waxvm_stop*)&error;
  CHECK(run_with(host, &options, &error) == WAXVM_OK);
  options.struct_size = (size_t)-1;
  CHECK(run_with(host, &options, &error) == WAXVM_INVALID_ARGUMENT);

  /* A caller compiled against a later header: its further fields must be 0. */
  struct {
    waxvm_run_options known;
    uint64_t later;
  } newer = {WAXVM_RUN_OPTIONS_INIT, 0};
  newer.known.struct_size = sizeof newer;
  CHECK(run_with(host, &newer.known, &error) == WAXVM_OK);
  newer.later = 1;
  CHECK(run_with(host, &newer.known, &error) == WAXVM_INVALID_ARGUMENT);

  /* An error structure that is shorter than its message must not be written past its end. */
  struct {
    size_t struct_size;
    waxvm_status code;
    char message[8];
    char after[4];
  } small = {offsetof(waxvm_error, message) + 8, 0, {0}, {'s', 'a', 'f', 'e'}};
  CHECK(run_with(host, &newer.known, (waxvm_error*)&small) == WAXVM_INVALID_ARGUMENT);
  CHECK(memcmp(small.after, "safe", 4) == 0 && strlen(small.message) == 7);
}

static void test_bad_options(waxvm_supervisor* host) {
  const char* hole[] = {"a", NULL};
  waxvm_error error = WAXVM_ERROR_INIT;
  waxvm_run_options options = WAXVM_RUN_OPTIONS_INIT;
  options.argument_count = 2;
  CHECK(run_with(host, &options, &error) == WAXVM_INVALID_ARGUMENT);
  options.arguments = hole;
  CHECK(run_with(host, &options, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(strstr(error.message, "arguments[1]") != NULL);
  options.argument_count = SIZE_MAX;
  CHECK(run_with(host, &options, &error) == WAXVM_INVALID_ARGUMENT);
  options = (waxvm_run_options)WAXVM_RUN_OPTIONS_INIT;
  options.input_bytes = 1;
  CHECK(run_with(host, &options, &error) == WAXVM_INVALID_ARGUMENT);
  options.input = "x";
  options.input_bytes = SIZE_MAX;
  CHECK(run_with(host, &options, &error) == WAXVM_RESOURCE_EXHAUSTED);
  /* As long as can be said is no limit that is met at once. */
  options = (waxvm_run_options)WAXVM_RUN_OPTIONS_INIT;
  options.wall_time_ns = options.cpu_time_ns = INT64_MAX;
  CHECK(run_with(host, &options, &error) == WAXVM_OK && last_outcome == WAXVM_OUTCOME_EXITED);
  options = (waxvm_run_options)WAXVM_RUN_OPTIONS_INIT;
  options.wall_time_ns = WAXVM_LIMIT_ZERO;
  CHECK(run_with(host, &options, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(strstr(error.message, "wall") != NULL);
  options.wall_time_ns = WAXVM_LIMIT_ZERO - 1;
  CHECK(run_with(host, &options, &error) == WAXVM_INVALID_ARGUMENT);

  waxvm_result* result = (waxvm_result*)&error;
  CHECK(waxvm_run_file(host, "/nonexistent/program", NULL, &result, &error) == WAXVM_NOT_FOUND);
  CHECK(result == NULL && strstr(error.message, "/nonexistent/program") != NULL);
  waxvm_program* program = (waxvm_program*)&error;
  CHECK(waxvm_program_open_bytes("no ELF", 6, "x", &program, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(program == NULL);
}

static waxvm_status refuse(void* user_data, waxvm_call* call, const void* request, size_t bytes) {
  ++*(int*)user_data;
  CHECK(bytes == 5 && memcmp(request, "world", 5) == 0);
  CHECK(strcmp(waxvm_call_label(call), "c") == 0 && !waxvm_call_stop_requested(call));
  waxvm_call_reply(call, "not today", 9);
  return WAXVM_PERMISSION_DENIED;
}

static int freed;
static void count_free(void* user_data) {
  (void)user_data;
  ++freed;
}

static void test_grants(waxvm_supervisor* host) {
  int calls = 0;
  waxvm_error error = WAXVM_ERROR_INIT;
  waxvm_grants* grants = NULL;
  CHECK(waxvm_grants_open(&grants, &error) == WAXVM_OK);
  CHECK(waxvm_grants_add_clock(grants, &error) == WAXVM_OK);
  CHECK(waxvm_grants_add_random(grants, &error) == WAXVM_OK);
  CHECK(waxvm_grants_add_files(grants, "/nonexistent/folder", NULL, 0, &error) ==
        WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_grants_add_function(grants, "greet", NULL, &calls, count_free, &error) ==
        WAXVM_INVALID_ARGUMENT);
  CHECK(freed == 1);
  CHECK(waxvm_grants_add_function(grants, "greet", refuse, &calls, count_free, &error) == WAXVM_OK);

  waxvm_run_options options = WAXVM_RUN_OPTIONS_INIT;
  options.grants = grants;
  options.label = "c";
  waxvm_result* result = NULL;
  CHECK(waxvm_run_file(host, guest("host_call_musl"), &options, &result, &error) == WAXVM_OK);
  CHECK(calls == 1);
  CHECK(waxvm_result_exit_code(result) == 1);
  const char* output = waxvm_result_output(result, NULL);
  CHECK(output != NULL && strcmp(output, "7 not today\n") == 0);
  waxvm_result_close(result);

  CHECK(waxvm_grants_add_files(grants, "/nonexistent/folder", "/data", 0, &error) == WAXVM_OK);
  CHECK(run_with(host, &options, &error) == WAXVM_NOT_FOUND);
  waxvm_grants_close(grants);
  CHECK(freed == 2);
}

static int refuse_output(void* user_data, int stream, const void* bytes, size_t byte_count) {
  (void)user_data, (void)stream, (void)bytes, (void)byte_count;
  return 42;
}

static void test_output(waxvm_supervisor* host) {
  waxvm_error error = WAXVM_ERROR_INIT;
  waxvm_result* result = NULL;
  waxvm_run_options options = WAXVM_RUN_OPTIONS_INIT;
  options.output = refuse_output;
  CHECK(waxvm_run_file(host, guest("hello_musl"), &options, &result, &error) == WAXVM_CANCELLED);
  CHECK(result == NULL && strstr(error.message, "42") != NULL);

  options = (waxvm_run_options)WAXVM_RUN_OPTIONS_INIT;
  options.output_bytes = 1000;
  CHECK(waxvm_run_file(host, guest("flood_output_musl"), &options, &result, &error) == WAXVM_OK);
  size_t bytes = 0;
  waxvm_result_output(result, &bytes);
  CHECK(bytes == 1000 && waxvm_result_outcome(result) == WAXVM_OUTCOME_LIMIT);
  CHECK(strcmp(waxvm_result_limit(result), "output") == 0);
  CHECK(waxvm_result_exit_code(result) == 124);
  waxvm_result_close(result);

  CHECK(waxvm_run_file(host, guest("segv_musl"), NULL, &result, &error) == WAXVM_OK);
  CHECK(waxvm_result_outcome(result) == WAXVM_OUTCOME_FAULT);
  CHECK(strcmp(waxvm_result_fault(result), "segmentation") == 0);
  CHECK(waxvm_result_exit_code(result) == 139);
  waxvm_result_close(result);
}

static void* request_soon(void* stop) {
  nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
  waxvm_stop_request(stop);
  return NULL;
}

static void test_stop_of_one_run(waxvm_supervisor* host) {
  waxvm_error error = WAXVM_ERROR_INIT;
  waxvm_run_options options = WAXVM_RUN_OPTIONS_INIT;
  waxvm_result* result = NULL;
  waxvm_stop* stop = NULL;
  pthread_t thread;
  CHECK(waxvm_stop_open(NULL, &error) == WAXVM_INVALID_ARGUMENT);
  waxvm_stop_close(NULL);
  waxvm_stop_request(NULL);
  CHECK(waxvm_stop_requested(NULL) == 0);
  CHECK(waxvm_stop_open(&stop, &error) == WAXVM_OK && !waxvm_stop_requested(stop));
  options.stop = stop;
  CHECK(pthread_create(&thread, NULL, request_soon, stop) == 0);
  CHECK(waxvm_run_file(host, guest("spin_musl"), &options, &result, &error) == WAXVM_OK);
  pthread_join(thread, NULL);
  CHECK(waxvm_result_outcome(result) == WAXVM_OUTCOME_STOPPED);
  waxvm_result_close(result);
  CHECK(waxvm_stop_requested(stop));
  /* It stays requested, and is this run's alone. */
  CHECK(waxvm_run_file(host, guest("spin_musl"), &options, &result, &error) == WAXVM_OK);
  CHECK(waxvm_result_outcome(result) == WAXVM_OUTCOME_STOPPED);
  waxvm_result_close(result);
  waxvm_stop_close(stop);
  CHECK(run_with(host, NULL, &error) == WAXVM_OK);
}

struct asked {
  int functions, files, others;
};

static waxvm_status refuse_some(void* user_data, const waxvm_access* access) {
  struct asked* seen = user_data;
  CHECK(access->struct_size == sizeof *access && strcmp(access->label, "judged") == 0);
  CHECK(strlen(access->name) == access->name_bytes);
  if (access->resource == WAXVM_RESOURCE_HOST_FUNCTION) {
    ++seen->functions;
    CHECK(strcmp(access->name, "greet") == 0 && !access->write);
    return WAXVM_PERMISSION_DENIED;
  }
  ++*(access->resource == WAXVM_RESOURCE_FILE ? &seen->files : &seen->others);
  return WAXVM_OK;
}

static waxvm_status never_called(void* user_data, waxvm_call* call, const void* request,
                                 size_t bytes) {
  (void)user_data, (void)call, (void)request, (void)bytes;
  CHECK(0); /* the authorizer had refused this */
  return WAXVM_OK;
}

static void test_authorizer(waxvm_supervisor* host) {
  struct asked seen = {0, 0, 0};
  waxvm_error error = WAXVM_ERROR_INIT;
  waxvm_run_options options = WAXVM_RUN_OPTIONS_INIT;
  waxvm_grants* grants = NULL;
  waxvm_result* result = NULL;
  CHECK(waxvm_grants_open(&grants, &error) == WAXVM_OK);
  CHECK(waxvm_grants_add_function(grants, "greet", never_called, NULL, NULL, &error) == WAXVM_OK);
  options.grants = grants;
  options.label = "judged";
  options.authorizer = refuse_some;
  options.authorizer_user_data = &seen;
  CHECK(waxvm_run_file(host, guest("host_call_musl"), &options, &result, &error) == WAXVM_OK);
  CHECK(seen.functions == 1);
  CHECK(strstr(waxvm_result_report_json(result), "\"name\": \"greet\"") != NULL);
  waxvm_result_close(result);
  waxvm_grants_close(grants);
}

struct spinner {
  waxvm_supervisor* host;
  const waxvm_program* program;
  int outcome;
};

static void* spin(void* argument) {
  struct spinner* self = argument;
  waxvm_result* result = NULL;
  if (waxvm_run(self->host, self->program, NULL, &result, NULL) == WAXVM_OK)
    self->outcome = waxvm_result_outcome(result);
  waxvm_result_close(result);
  return NULL;
}

/* Last of all: the supervisor refuses every later run. */
static void test_stop(waxvm_supervisor* host) {
  enum { kThreads = 2 };
  pthread_t threads[kThreads];
  struct spinner spinners[kThreads];
  waxvm_error error = WAXVM_ERROR_INIT;
  waxvm_program* program = NULL;
  CHECK(waxvm_program_open_file(guest("spin_musl"), &program, &error) == WAXVM_OK);
  for (int i = 0; i < kThreads; ++i) {
    spinners[i] = (struct spinner){host, program, -1};
    CHECK(pthread_create(&threads[i], NULL, spin, &spinners[i]) == 0);
  }
  nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
  waxvm_supervisor_stop(host);
  for (int i = 0; i < kThreads; ++i) {
    pthread_join(threads[i], NULL);
    CHECK(spinners[i].outcome == WAXVM_OUTCOME_STOPPED);
  }
  CHECK(run_with(host, NULL, &error) == WAXVM_CANCELLED);
  waxvm_program_close(program);
}

/* RFC 8410 section 10.3. */
static const char host_key[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n"
    "-----END PRIVATE KEY-----\n";

static void test_identity(waxvm_supervisor* host) {
  const char* arguments[] = {"I am here", "waxvm.identity.sign"};
  char folder[] = "/tmp/waxvm_c_identity.XXXXXX", key[64], directory[64], file[80];
  waxvm_error error = WAXVM_ERROR_INIT;
  waxvm_identity_options who = WAXVM_IDENTITY_OPTIONS_INIT;
  waxvm_run_options options = WAXVM_RUN_OPTIONS_INIT;
  waxvm_identity* identity = NULL;
  waxvm_result *one = NULL, *two = NULL;
  uint64_t next = 0;
  CHECK(mkdtemp(folder) != NULL);
  snprintf(key, sizeof key, "%s/host.pem", folder);
  snprintf(directory, sizeof directory, "%s/directory", folder);
  const int fd = open(key, O_WRONLY | O_CREAT | O_EXCL, 0600);
  CHECK(write(fd, host_key, sizeof host_key - 1) == (ssize_t)sizeof host_key - 1);
  close(fd);
  who.host_key_path = key;
  who.directory_path = directory;
  who.grant_signing = 1;
  CHECK(waxvm_identity_open(&who, &identity, &error) == WAXVM_OK);
  CHECK(waxvm_identity_add_service(identity, "coap", 17, 5683, &error) == WAXVM_OK);
  options.identity = identity;
  options.arguments = arguments;
  options.argument_count = 2;
  CHECK(waxvm_run_file(host, guest("host_call_musl"), &options, &one, &error) == WAXVM_OK);
  CHECK(waxvm_run_file(host, guest("host_call_musl"), &options, &two, &error) == WAXVM_OK);
  CHECK(waxvm_result_exit_code(one) == 0);
  CHECK(strncmp(waxvm_result_address(one), "fd", 2) == 0);
  CHECK(strlen(waxvm_result_public_key(one)) == 64);
  CHECK(strcmp(waxvm_result_address(one), waxvm_result_address(two)) != 0);
  CHECK(strstr(waxvm_result_report_json(one), waxvm_result_address(one)) != NULL);
  CHECK(strstr(waxvm_result_report_json(one), "\"statements\": 1") != NULL);
  CHECK(waxvm_identity_renew(identity, &next, &error) == WAXVM_OK && next == 3600);
  waxvm_identity_close(identity);
  waxvm_result_close(one);
  waxvm_result_close(two);

  CHECK(waxvm_run_file(host, guest("true_musl"), NULL, &one, &error) == WAXVM_OK);
  CHECK(waxvm_result_address(one) == NULL && waxvm_result_public_key(one) == NULL);
  waxvm_result_close(one);

  identity = (waxvm_identity*)&error;
  who.advert_end = 3;
  CHECK(waxvm_identity_open(&who, &identity, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(identity == NULL);
  who.advert_end = WAXVM_ADVERT_REVOKE;
  who.host_key_path = "/nonexistent/key";
  CHECK(waxvm_identity_open(&who, &identity, &error) == WAXVM_NOT_FOUND);
  CHECK(waxvm_identity_open(&who, NULL, &error) == WAXVM_INVALID_ARGUMENT);
  who.struct_size = 8;
  CHECK(waxvm_identity_open(&who, &identity, &error) == WAXVM_INVALID_ARGUMENT);
  /* A directory without a host's key: refused when it is used. */
  who = (waxvm_identity_options)WAXVM_IDENTITY_OPTIONS_INIT;
  who.directory_path = directory;
  CHECK(waxvm_identity_open(&who, &identity, &error) == WAXVM_OK);
  options.identity = identity;
  CHECK(run_with(host, &options, &error) == WAXVM_INVALID_ARGUMENT);
  waxvm_identity_close(identity);
  waxvm_identity_close(NULL);
  CHECK(waxvm_result_address(NULL) == NULL && waxvm_result_public_key(NULL) == NULL);
  for (int i = 0; i < 4; i++) {
    static const char* const names[] = {"host.pem", "directory", "directory-wal", "directory-shm"};
    snprintf(file, sizeof file, "%s/%s", folder, names[i]);
    unlink(file);
  }
  CHECK(rmdir(folder) == 0);
}

int main(int argc, char** argv) {
  const waxvm_provider provider =
      argc > 1 && strcmp(argv[1], "microvm") == 0 ? WAXVM_PROVIDER_MICROVM : WAXVM_PROVIDER_PROCESS;
  waxvm_error error = WAXVM_ERROR_INIT;
  waxvm_supervisor* host = NULL;
  if (waxvm_provider_available(provider, &error) == WAXVM_UNAVAILABLE) {
    printf("skipped: %s\n", error.message);
    return 77;
  }
  if (waxvm_supervisor_open(provider, &host, &error) != WAXVM_OK)
    return fprintf(stderr, "waxvm_supervisor_open: %s\n", error.message), 1;
  test_null(host);
  test_versions(host);
  test_bad_options(host);
  test_grants(host);
  test_output(host);
  test_stop_of_one_run(host);
  test_authorizer(host);
  test_identity(host);
  test_stop(host);
  waxvm_supervisor_close(host);
  printf("%d failures\n", failures);
  return failures != 0;
}
