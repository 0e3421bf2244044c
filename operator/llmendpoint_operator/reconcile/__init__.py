"""The reconcile loop: a level-triggered work queue, and the steps that all kinds of resources share."""
