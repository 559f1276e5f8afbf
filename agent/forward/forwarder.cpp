#include "agent/forward/forwarder.h"
