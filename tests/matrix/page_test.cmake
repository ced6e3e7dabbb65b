# Fails where docs/language-matrix.md is not what the matrix prints. Set by the caller: GENERATOR,
# PAGE.
execute_process(COMMAND ${GENERATOR} OUTPUT_VARIABLE expected COMMAND_ERROR_IS_FATAL ANY)
file(READ ${PAGE} actual)
if(NOT actual STREQUAL expected)
  message(FATAL_ERROR "${PAGE} differs from tests/matrix/matrix.cc; write it anew with\n"
                      "  ${GENERATOR} > ${PAGE}")
endif()
