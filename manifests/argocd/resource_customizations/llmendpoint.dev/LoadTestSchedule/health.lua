-- The status follows kstatus: observedGeneration, Reconciling and Stalled. A schedule is healthy if it can start load
-- tests; whether one passed is the health of that LoadTest.
local health = { status = "Progressing", message = "Waiting for the operator" }
if obj.status == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return health
end

for _, condition in ipairs(obj.status.conditions or {}) do
  if condition.status == "True" and condition.type == "Stalled" then
    return { status = "Degraded", message = condition.message }
  end
  if condition.status == "True" and condition.type == "Reconciling" then
    return { status = "Progressing", message = condition.message }
  end
end

-- As Argo CD's own check of CronJobs: Suspended would hold a sync with several waves for ever
-- (https://github.com/argoproj/argo-cd/issues/24428).
health.status = "Healthy"
health.message = "Load tests are started on schedule"
if obj.spec.suspend == true then
  health.message = "The schedule is suspended"
end
return health
