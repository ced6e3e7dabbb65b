/* SPDX-License-Identifier: Apache-2.0 */
/* value_test: typed values of the C ABI, built well and badly. */
#include <math.h>
#include <string.h>

#include "check.h"
#include "waxvm_c_value.h"

static const char kKey[] = "a\0key"; /* with a zero byte inside */

static waxvm_value* make_all(void) {
  waxvm_error error = WAXVM_ERROR_INIT;
  waxvm_value* map = waxvm_value_new_map();
  waxvm_value* list = waxvm_value_new_list();
  CHECK(waxvm_value_append(list, waxvm_value_new_null(), &error) == WAXVM_OK);
  CHECK(waxvm_value_append(list, waxvm_value_new_bool(7), &error) == WAXVM_OK);
  CHECK(waxvm_value_append(list, waxvm_value_new_int64(INT64_MIN), &error) == WAXVM_OK);
  CHECK(waxvm_value_append(list, waxvm_value_new_uint64(UINT64_MAX), &error) == WAXVM_OK);
  CHECK(waxvm_value_append(list, waxvm_value_new_float64(NAN), &error) == WAXVM_OK);
  CHECK(waxvm_value_append(list, waxvm_value_new_text("", 0), &error) == WAXVM_OK);
  CHECK(waxvm_value_append(list, waxvm_value_new_data("\xff\0", 2), &error) == WAXVM_OK);
  CHECK(waxvm_value_insert(map, "list", 4, list, &error) == WAXVM_OK);
  CHECK(waxvm_value_insert(map, kKey, 5, waxvm_value_new_int64(3), &error) == WAXVM_OK);
  return map;
}

static void check_all(const waxvm_value* map) {
  const waxvm_value* list = waxvm_value_find(map, "list", 4);
  size_t bytes = 9;
  int yes = 0;
  int64_t small = 0;
  uint64_t large = 0;
  double real = 0;
  CHECK(waxvm_value_kind(map) == WAXVM_VALUE_MAP && waxvm_value_count(map) == 2);
  CHECK(waxvm_value_kind(list) == WAXVM_VALUE_LIST && waxvm_value_count(list) == 7);
  CHECK(waxvm_value_at(map, 0) == list && waxvm_value_at(map, 2) == NULL);
  CHECK(memcmp(waxvm_value_key(map, 1, &bytes), kKey, 6) == 0 && bytes == 5);
  CHECK(waxvm_value_key(map, 2, &bytes) == NULL && bytes == 0);
  CHECK(waxvm_value_find(map, "a", 1) == NULL && waxvm_value_find(map, NULL, 0) == NULL);
  CHECK(waxvm_value_kind(waxvm_value_at(list, 0)) == WAXVM_VALUE_NULL);
  CHECK(waxvm_value_get_bool(waxvm_value_at(list, 1), &yes) && yes == 1);
  CHECK(waxvm_value_get_int64(waxvm_value_at(list, 2), &small) && small == INT64_MIN);
  CHECK(!waxvm_value_get_uint64(waxvm_value_at(list, 2), &large));
  CHECK(waxvm_value_get_uint64(waxvm_value_at(list, 3), &large) && large == UINT64_MAX);
  CHECK(!waxvm_value_get_int64(waxvm_value_at(list, 3), &small));
  CHECK(waxvm_value_get_uint64(waxvm_value_find(map, kKey, 5), &large) && large == 3);
  CHECK(waxvm_value_get_float64(waxvm_value_at(list, 4), &real) && isnan(real));
  CHECK(!waxvm_value_get_float64(waxvm_value_at(list, 3), &real));
  CHECK(waxvm_value_get_bytes(waxvm_value_at(list, 5), &bytes)[0] == '\0' && bytes == 0);
  CHECK(memcmp(waxvm_value_get_bytes(waxvm_value_at(list, 6), &bytes), "\xff\0", 3) == 0);
  CHECK(bytes == 2 && waxvm_value_get_bytes(list, &bytes) == NULL && bytes == 0);
}

static void test_round_trip(void) {
  waxvm_error error = WAXVM_ERROR_INIT;
  waxvm_bytes* message = NULL;
  waxvm_value* back = NULL;
  waxvm_value* value = make_all();
  size_t bytes = 0;
  check_all(value);
  CHECK(waxvm_value_encode(value, &message, &error) == WAXVM_OK);
  const char* data = waxvm_bytes_data(message, &bytes);
  CHECK(bytes % 8 == 0 && bytes > 100);
  CHECK(waxvm_value_decode(data, bytes, &back, &error) == WAXVM_OK);
  check_all(back);
  waxvm_value_close(back);
  CHECK(waxvm_value_decode(data, bytes - 8, &back, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(back == NULL && error.message[0] != '\0');
  waxvm_bytes_close(message);
  waxvm_value_close(value);
}

static void test_bad_use(void) {
  waxvm_error error = WAXVM_ERROR_INIT;
  waxvm_bytes* message = NULL;
  waxvm_value *list = waxvm_value_new_list(), *map = waxvm_value_new_map(), *back = NULL;
  int64_t number;
  waxvm_value_close(NULL);
  CHECK(waxvm_value_kind(NULL) == -1 && waxvm_value_count(NULL) == 0);
  CHECK(waxvm_value_at(NULL, 0) == NULL && waxvm_value_key(NULL, 0, NULL) == NULL);
  CHECK(!waxvm_value_get_int64(NULL, &number) && waxvm_value_get_bytes(NULL, NULL) == NULL);
  CHECK(waxvm_value_new_text(NULL, 1) == NULL && waxvm_value_new_data(NULL, 1) == NULL);
  CHECK(waxvm_value_append(NULL, waxvm_value_new_null(), &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_value_append(list, NULL, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_value_append(list, list, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_value_append(map, waxvm_value_new_null(), &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(strstr(error.message, "no list") != NULL);
  CHECK(waxvm_value_insert(list, "k", 1, waxvm_value_new_null(), &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_value_insert(map, NULL, 1, waxvm_value_new_null(), &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_value_encode(NULL, &message, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_value_encode(list, NULL, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_value_decode(NULL, 8, &back, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_value_decode(NULL, 0, &back, &error) == WAXVM_INVALID_ARGUMENT && back == NULL);
  for (int i = 0; i < 2; ++i)
    CHECK(waxvm_value_insert(map, "k", 1, waxvm_value_new_text("\xff", 1), &error) == WAXVM_OK);
  CHECK(waxvm_value_encode(map, &message, &error) == WAXVM_INVALID_ARGUMENT && message == NULL);
  CHECK(strstr(error.message, "UTF-8") != NULL);
  for (int i = 0; i < WAXVM_MOST_VALUE_DEPTH; ++i) {
    waxvm_value* outer = waxvm_value_new_list();
    CHECK(waxvm_value_append(outer, list, &error) == WAXVM_OK);
    list = outer;
  }
  CHECK(waxvm_value_encode(list, &message, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(strstr(error.message, "32 levels") != NULL);
  waxvm_value_close(list);
  waxvm_value_close(map);
}

int main(void) {
  test_round_trip();
  test_bad_use();
  printf("%d failures\n", failures);
  return failures != 0;
}
