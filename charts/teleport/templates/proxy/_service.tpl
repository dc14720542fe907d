{{/* How a Service is reached from outside of the cluster: one of the values' sections of Services. */}}
{{- define "teleport.outside" -}}
type: {{ .type }}
{{- if ne .type "ClusterIP" }}
externalTrafficPolicy: {{ .externalTrafficPolicy }}
{{- end }}
{{- if eq .type "LoadBalancer" }}
{{- with .loadBalancerClass }}
loadBalancerClass: {{ . }}
{{- end }}
{{- with .loadBalancerSourceRanges }}
loadBalancerSourceRanges:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* One port of a Service: (dict "service" SECTION "name" NAME "port" PORT "nodePort" PORT-OR-NULL). */}}
{{- define "teleport.servicePort" -}}
- name: {{ .name }}
  port: {{ .port }}
  targetPort: {{ .name }}
  {{- if and .nodePort (ne .service.type "ClusterIP") }}
  nodePort: {{ .nodePort }}
  {{- end }}
{{- end -}}
