"""What all jobs share: plan, scheduler, copy, verification, re-pointing of rows."""
