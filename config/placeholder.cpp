#include "buffer/result.h"
