-- The status follows kstatus: observedGeneration, Reconciling and Stalled. All conditions and reasons:
-- https://github.com/llmendpoint/llmendpoint/blob/main/docs/conditions.md
local health = { status = "Progressing", message = "Waiting for the operator" }
if obj.status == nil or obj.status.conditions == nil then
  return health
end

local conditions = {}
for _, condition in ipairs(obj.status.conditions) do
  conditions[condition.type] = condition
end

local function is(type, status)
  return conditions[type] ~= nil and conditions[type].status == status
end

-- A run that has ended keeps its result, even if the spec is changed afterwards.
if is("Complete", "True") then
  health.status = is("Stalled", "True") and "Degraded" or "Healthy"
  local result = conditions["Passed"] or conditions["Complete"]
  health.message = result.message
  return health
end

if is("Stalled", "True") and conditions["Stalled"].observedGeneration == obj.metadata.generation then
  health.status = "Degraded"
  health.message = conditions["Stalled"].message
  return health
end

-- Neither ended nor reconciling: spec.suspend is true. Argo CD's own Suspended would hold a sync with several waves.
if is("Reconciling", "False") and conditions["Reconciling"].observedGeneration == obj.metadata.generation then
  health.status = "Healthy"
end

if conditions["Complete"] ~= nil then
  health.message = conditions["Complete"].message
end
return health
