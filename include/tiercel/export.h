// The visibility mark of public symbols: the shared library exports what carries TIERCEL_API and nothing else.
#pragma once

#define TIERCEL_API __attribute__((visibility("default")))
