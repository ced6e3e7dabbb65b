# Fails where docs/linux-abi.md is not what the table prints. Set by the caller: GENERATOR, PAGE.
execute_process(COMMAND ${GENERATOR} OUTPUT_VARIABLE expected COMMAND_ERROR_IS_FATAL ANY)
file(READ ${PAGE} actual)
if(NOT actual STREQUAL expected)
  message(FATAL_ERROR "${PAGE} differs from the table in src/linux_abi; write it anew with\n"
                      "  ${GENERATOR} > ${PAGE}")
endif()
