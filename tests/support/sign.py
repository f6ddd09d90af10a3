"""Signs as Standard Webhooks does, by its own library: SECRET, ID and BODY are arguments, and time and signature are printed."""

import sys
from datetime import datetime, timezone

from standardwebhooks import Webhook

secret, id, body = sys.argv[1:]
now = datetime.now(timezone.utc)
print(int(now.timestamp()), Webhook(secret).sign(id, now, body))
